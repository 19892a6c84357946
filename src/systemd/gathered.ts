/** Questions about units that are asked at the same time, as one question about all of them. */
export class Gathered<Answer> {
  readonly #ask: (units: readonly string[]) => Promise<ReadonlyMap<string, Answer>>;
  readonly #units = new Set<string>();
  #asking: Promise<ReadonlyMap<string, Answer>> | undefined;

  /** @param ask throws what {@link of} throws */
  constructor(ask: (units: readonly string[]) => Promise<ReadonlyMap<string, Answer>>) {
    this.#ask = ask;
  }

  /** The answer about one unit; undefined if there is none about it. */
  async of(unit: string): Promise<Answer | undefined> {
    this.#units.add(unit);
    this.#asking ??= new Promise((resolve) => setImmediate(resolve)).then(() => {
      const units = [...this.#units];
      this.#units.clear();
      this.#asking = undefined;
      return this.#ask(units);
    });
    return (await this.#asking).get(unit);
  }
}
