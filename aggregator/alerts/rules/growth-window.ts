/** Increments closer together than a sixtieth of the window count as one, of the first one's time. */
const BUCKETS = 60;
/** A ring holds at most this many buckets: 60 a bucket's length apart, and the one that begins. Power of two. */
const MAX_SIZE = 64;
/** Most counters grow seldom: few buckets to begin with. */
const FIRST_SIZE = 4;

/**
 * By how much one counter grew within the last `windowMs`: exact where increments are at least a sixtieth of the
 * window apart; otherwise some leave up to that much early, so that it never says more than there was. At most 1 KiB.
 */
export class GrowthWindow {
  readonly #windowMs: number;
  #times = new Float64Array(FIRST_SIZE);
  #amounts = new Float64Array(FIRST_SIZE);
  #head = 0;
  #count = 0;
  #sum = 0;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  get empty(): boolean {
    return this.#count === 0;
  }

  /** `t` must not be older than that of the last call. */
  add(t: number, amount: number): void {
    this.sumAt(t);
    const last = (this.#head + this.#count - 1) & (this.#times.length - 1);
    this.#sum += amount;
    if (this.#count > 0 && t - this.#times[last]! < this.#windowMs / BUCKETS) {
      this.#amounts[last]! += amount;
      return;
    }
    if (this.#count === this.#times.length) this.#grow();
    const next = (this.#head + this.#count) & (this.#times.length - 1);
    this.#times[next] = t;
    this.#amounts[next] = amount;
    this.#count++;
  }

  /** The growth after `t - windowMs`. */
  sumAt(t: number): number {
    const first = this.#count;
    while (this.#count > 0 && this.#times[this.#head]! <= t - this.#windowMs) {
      this.#head = (this.#head + 1) & (this.#times.length - 1);
      this.#count--;
    }
    // Added up anew rather than subtracted: what is left of large amounts must not be their rounding.
    if (this.#count < first) {
      this.#sum = 0;
      for (let i = 0; i < this.#count; i++) {
        this.#sum += this.#amounts[(this.#head + i) & (this.#times.length - 1)]!;
      }
    }
    return this.#sum;
  }

  #grow(): void {
    const size = Math.min(this.#times.length * 2, MAX_SIZE);
    const times = new Float64Array(size);
    const amounts = new Float64Array(size);
    for (let i = 0; i < this.#count; i++) {
      const from = (this.#head + i) & (this.#times.length - 1);
      times[i] = this.#times[from]!;
      amounts[i] = this.#amounts[from]!;
    }
    this.#times = times;
    this.#amounts = amounts;
    this.#head = 0;
  }
}
