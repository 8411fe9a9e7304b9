import { approach } from '../decayed.ts';

/** Half-lives in milliseconds of work: of what is now, and of how the board always was. Own judgement. */
const NOW_HALF_LIFE_MS = 30 * 60_000;
const ALWAYS_HALF_LIFE_MS = 3 * 86_400_000;
/** Work seen before the second means something. Own judgement. */
const LEARNING_MS = 6 * 3_600_000;

/**
 * How much more (or less) a GPU deviates from its peers than it always did, by GPU. Boards differ by a few percent from
 * the day they are made: that is no fault. Nothing is said before six hours of work.
 */
export class OwnExcess {
  readonly #now: Float32Array;
  readonly #always: Float32Array;
  readonly #seenMs: Float32Array;

  constructor(capacity: number) {
    this.#now = new Float32Array(capacity).fill(Number.NaN);
    this.#always = new Float32Array(capacity).fill(Number.NaN);
    this.#seenMs = new Float32Array(capacity);
  }

  /** Another GPU has the place. */
  forget(gpu: number): void {
    this.#now[gpu] = Number.NaN;
    this.#always[gpu] = Number.NaN;
    this.#seenMs[gpu] = 0;
  }

  /** Takes a deviation that held for `elapsedMs`; gives the excess, NaN while it is being learned. */
  add(gpu: number, deviation: number, elapsedMs: number): number {
    this.#seenMs[gpu]! += elapsedMs;
    const seenMs = this.#seenMs[gpu]!;
    this.#now[gpu] = approach(this.#now[gpu]!, deviation, elapsedMs / NOW_HALF_LIFE_MS);
    // What is always so is at first the mean of all so far.
    const halfLifeMs = Math.min(ALWAYS_HALF_LIFE_MS, Math.max(NOW_HALF_LIFE_MS, seenMs / 2));
    this.#always[gpu] = approach(this.#always[gpu]!, deviation, elapsedMs / halfLifeMs);
    return seenMs < LEARNING_MS ? Number.NaN : this.#now[gpu]! - this.#always[gpu]!;
  }
}
