/**
 * Ids in the order in which they were added. The iterator is kept: a new one would walk over all that was deleted
 * before it comes to the first, which makes a queue of a large set slow.
 */
export class OldestFirst {
  readonly #ids = new Set<string>();
  #cursor: Iterator<string> = this.#ids.values();

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Puts an id last, also one that is there. */
  add(id: string): void {
    this.#ids.delete(id);
    this.#ids.add(id);
  }

  delete(id: string): void {
    this.#ids.delete(id);
  }

  /** Takes the oldest away. */
  take(): string | undefined {
    let next = this.#cursor.next();
    if (next.done) {
      // An iterator that came to its end stays there.
      this.#cursor = this.#ids.values();
      next = this.#cursor.next();
    }
    if (next.done) return undefined;
    this.#ids.delete(next.value);
    return next.value;
  }
}
