import type { RateLimit } from './receivers/receiver-kind.ts';

/** So many at once, and as many again in each window. */
export class TokenBucket {
  readonly #limit: RateLimit;
  #tokens: number;
  #atMs: number;

  constructor(limit: RateLimit, nowMs: number) {
    this.#limit = limit;
    this.#tokens = limit.count;
    this.#atMs = nowMs;
  }

  has(nowMs: number): boolean {
    const { count, windowMs } = this.#limit;
    // A clock that was set back earns nothing until it is where it was.
    const passedMs = Math.max(0, nowMs - this.#atMs);
    this.#tokens = Math.min(count, this.#tokens + (passedMs * count) / windowMs);
    this.#atMs = nowMs;
    return this.#tokens >= 1;
  }

  take(nowMs: number): boolean {
    if (!this.has(nowMs)) return false;
    this.#tokens--;
    return true;
  }
}
