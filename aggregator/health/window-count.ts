/**
 * How often something happened within a window that moves: a ring of buckets, so that an event counts fully until
 * it leaves, and at most one bucket longer. Times are Unix ms, of the events themselves.
 */
export class WindowCount {
  readonly #bucketMs: number;
  readonly #counts: Float64Array;
  /** Number of the newest bucket. */
  #newest = 0;
  #sum = 0;

  constructor(windowMs: number, buckets: number) {
    this.#bucketMs = windowMs / buckets;
    // One more: the oldest bucket is only partly outside of the window.
    this.#counts = new Float64Array(buckets + 1);
  }

  add(count: number, atMs: number): void {
    const bucket = Math.floor(atMs / this.#bucketMs);
    this.#moveTo(bucket);
    if (this.#newest - bucket >= this.#counts.length) return;
    this.#counts[bucket % this.#counts.length]! += count;
    this.#sum += count;
  }

  sum(nowMs: number): number {
    const bucket = Math.floor(nowMs / this.#bucketMs);
    if (this.#newest - bucket >= this.#counts.length) this.#moveBack(bucket);
    this.#moveTo(bucket);
    return this.#sum;
  }

  /** What is counted, for keeping: time and count of each bucket that has any. */
  entries(): [atMs: number, count: number][] {
    const found: [number, number][] = [];
    for (let back = this.#counts.length - 1; back >= 0; back--) {
      const bucket = this.#newest - back;
      const count = bucket < 0 ? 0 : this.#counts[bucket % this.#counts.length]!;
      if (count > 0) found.push([bucket * this.#bucketMs, count]);
    }
    return found;
  }

  clear(): void {
    this.#counts.fill(0);
    this.#sum = 0;
  }

  #moveTo(bucket: number): void {
    const { length } = this.#counts;
    if (bucket <= this.#newest) return;
    if (this.#sum !== 0) {
      const steps = Math.min(bucket - this.#newest, length);
      for (let i = 1; i <= steps; i++) this.#counts[(bucket - steps + i) % length] = 0;
      this.#sum = 0;
      for (const count of this.#counts) this.#sum += count;
    }
    this.#newest = bucket;
  }

  /** A clock that was further ahead than the window is long has been set right: what was counted counts from now on. */
  #moveBack(bucket: number): void {
    const sum = this.#sum;
    this.clear();
    this.#newest = bucket;
    this.#counts[bucket % this.#counts.length] = sum;
    this.#sum = sum;
  }
}
