/** Seconds of the allowed rate that may come at once: an agent that was away a moment sends what waited. */
const BURST_SECONDS = 5;

/** A token bucket in samples. What does not pass is deferred, never lost: it comes again in the backfill lane. */
export class RateLimit {
  readonly #perSecond: number;
  #tokens: number;
  #at: number;

  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond * BURST_SECONDS;
    this.#at = now;
  }

  /** Whether this many samples may pass at `now`, monotonic ms. One tick always may when the bucket is full. */
  take(samples: number, now: number): boolean {
    const full = this.#perSecond * BURST_SECONDS;
    this.#tokens = Math.min(full, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    if (this.#tokens < Math.min(samples, full)) return false;
    this.#tokens -= samples;
    return true;
  }
}
