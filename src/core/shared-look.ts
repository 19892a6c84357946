/**
 * Looks that cost a process of root's: there is one at a time, for all who have asked meanwhile.
 */
export class SharedLook<T> {
  readonly #look: (names: readonly string[]) => Promise<T>;
  readonly #wanted = new Set<string>();
  #next: Promise<T> | undefined;
  #current: Promise<unknown> = Promise.resolve();

  constructor(look: (names: readonly string[]) => Promise<T>) {
    this.#look = look;
  }

  /** Joins the next look, which begins when the present one has ended. */
  join(names: Iterable<string>): Promise<T> {
    for (const name of names) this.#wanted.add(name);
    if (this.#next !== undefined) return this.#next;
    const next = this.#current.then(async () => {
      this.#next = undefined;
      const wanted = [...this.#wanted];
      this.#wanted.clear();
      return this.#look(wanted);
    });
    this.#next = next;
    this.#current = next.catch(() => undefined);
    return next;
  }
}

/** Names in one request to the helper, which takes 64 KiB. */
const namesPerRequest = 200;

/** Names in portions that a request to the helper can hold. */
export function* portionsOf(names: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < names.length; at += namesPerRequest) {
    yield names.slice(at, at + namesPerRequest);
  }
}
