/** The handlers of an event. They run at once, in the order in which they were added. */
export class Listeners<Args extends readonly unknown[]> {
  readonly #handlers = new Set<(...args: Args) => void>();

  /** Returns the way to stop listening. */
  add(handler: (...args: Args) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  emit(...args: Args): void {
    for (const handler of [...this.#handlers]) handler(...args);
  }
}
