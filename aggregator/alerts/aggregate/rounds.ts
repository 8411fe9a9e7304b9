/** Most subjects that one call judges. Measured: alerts that all begin at once take 50 µs each, so 100 ms. */
const MOST = 2_000;
/**
 * The engine takes three of these for a gap. One that is only as long as the calls are apart would let a busy moment
 * of this process pass for a recovery.
 */
const INTERVAL_FLOOR_MS = 10_000;

/** Spreads many subjects over several calls. A round goes through what its fill found, then the next begins. */
export class Rounds<T> {
  #queue: readonly T[] = [];
  #next = 0;
  #startedMs = Number.NaN;
  #intervalMs = INTERVAL_FLOOR_MS;

  /** How far two looks at the same subject are apart. */
  get intervalMs(): number {
    return this.#intervalMs;
  }

  /** What is to be judged now. */
  take(nowMs: number, fill: () => readonly T[]): readonly T[] {
    if (this.#next >= this.#queue.length) {
      if (!Number.isNaN(this.#startedMs)) {
        this.#intervalMs = Math.max(INTERVAL_FLOOR_MS, nowMs - this.#startedMs);
      }
      this.#queue = fill();
      this.#next = 0;
      this.#startedMs = nowMs;
    }
    const batch = this.#queue.slice(this.#next, this.#next + MOST);
    this.#next += batch.length;
    return batch;
  }
}
