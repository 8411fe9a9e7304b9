/** First and longest wait between two attempts to connect, ms. */
const FIRST_MS = 200;
const LONGEST_MS = 30_000;

/**
 * Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015): a fleet that lost its aggregator
 * at one moment does not come back at one moment.
 */
export class Backoff {
  readonly #random: () => number;
  #attempt = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  next(): number {
    const limit = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#attempt, 20));
    this.#attempt++;
    return Math.round(this.#random() * limit);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
