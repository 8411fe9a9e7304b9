/** More groups than this that wait at once are told as one; our own judgement, as are the figures below. */
const MAX_SINGLE = 10;
/** While a storm goes on, so few. */
const MAX_SINGLE_IN_STORM = 2;
/** After a storm notification nothing is told for so long, doubling with each further one up to the last. */
const PAUSE_MS = 30_000;
const LAST_PAUSE_MS = 300_000;
/** A storm is over when none was told for so long after its pause. */
const OVER_MS = 300_000;

/**
 * When many groups become one notification, and how long it is quiet after that. Of a storm of any length and size
 * that is one notification in five minutes in the long run, and five in its first ten.
 */
export class StormPace {
  #quietUntilMs = 0;
  #untilMs = 0;
  #told = 0;

  /** What is new waits, to be told with what else comes. */
  isQuiet(nowMs: number): boolean {
    return nowMs < this.#quietUntilMs && nowMs >= this.#quietUntilMs - LAST_PAUSE_MS;
  }

  /** Groups that are each worth a notification of their own; more are one. */
  most(nowMs: number): number {
    return nowMs < this.#untilMs ? MAX_SINGLE_IN_STORM : MAX_SINGLE;
  }

  tell(nowMs: number): void {
    this.#told = nowMs < this.#untilMs ? this.#told + 1 : 0;
    const pauseMs = Math.min(LAST_PAUSE_MS, PAUSE_MS * 2 ** Math.min(this.#told, 10));
    this.#quietUntilMs = nowMs + pauseMs;
    this.#untilMs = nowMs + pauseMs + OVER_MS;
  }
}
