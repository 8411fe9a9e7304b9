/** Requests in flight: never fewer, never more. VictoriaMetrics gains nothing from more than two for each core. */
export const MIN_CONCURRENCY = 1;
export const MAX_CONCURRENCY = 8;

/**
 * Of a store that takes what it is given. With one at a time it stands idle while the next is on its way: a backlog
 * took a quarter longer to drain (benchmark catchup).
 */
const LEAST_WHILE_WELL = 2;
const FIRST_LIMIT = 3;
/**
 * Requests that wait inside the store: up to the first the limit rises, beyond the second it falls. One is enough to
 * keep it busy; with three on two cores that it shared with us it took a third less (benchmark e2e).
 */
const FEW_WAITING = 0.8;
const MANY_WAITING = 1.2;
/** Small requests say nothing about how fast large ones are. */
const MIN_SAMPLES = 5_000;
/** After so many answers the shortest is measured anew, at half the limit: a store that became slower is no queue. */
const MEASURE_EVERY = 1_000;

/**
 * How many requests may be in flight. As TCP Vegas: with limit L, the shortest answer m and this one t, about
 * L * (1 - m / t) requests wait inside the store; it is kept busy with one of them, however far away it is
 * and however many cores it has. Halved when it says that it is overloaded.
 */
export class ConcurrencyLimit {
  #limit = FIRST_LIMIT;
  #shortestMs = Number.POSITIVE_INFINITY;
  #answers = 0;

  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** An answer to a request of so many samples; `inFlight` requests were under way. */
  answered(ms: number, samples: number, inFlight: number): void {
    if (samples < MIN_SAMPLES || ms <= 0) return;
    if (++this.#answers % MEASURE_EVERY === 0) {
      this.#shortestMs = Number.POSITIVE_INFINITY;
      this.#set(this.#limit / 2, LEAST_WHILE_WELL);
      return;
    }
    this.#shortestMs = Math.min(this.#shortestMs, ms);
    // Only a limit that was reached can be too low or too high.
    if (inFlight < this.limit) return;
    const waiting = this.#limit * (1 - this.#shortestMs / ms);
    if (waiting < FEW_WAITING) this.#set(this.#limit + 1 / this.#limit);
    else if (waiting > MANY_WAITING) this.#set(this.#limit - 1 / this.#limit, LEAST_WHILE_WELL);
  }

  /** The store is overloaded or away. */
  overloaded(): void {
    this.#set(this.#limit / 2);
  }

  #set(limit: number, least = MIN_CONCURRENCY): void {
    this.#limit = Math.min(MAX_CONCURRENCY, Math.max(least, limit));
  }
}
