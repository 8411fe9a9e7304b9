/** A condition is judged when the row was watched for so long. */
const LEAST_SECONDS = 3600;
/** What held for more of the time is how this GPU is. Own judgement. */
const USUAL_SHARE = 0.01;
const MEMORY_SECONDS = 7 * 86_400;
/** While it is called unusual it is learned at this share. */
const LEARNING_WHILE_UNUSUAL = 0.05;
/** Time without the condition counts a quarter against the time with it: a link that flaps adds up. */
const RELIEF = 0.25;

/**
 * Conditions that are plain to see (a link is down, lanes are missing), one row each: unusual when one holds for
 * longer than `persistMs`, and did not for more than a hundredth of the past. 16 bytes a row.
 */
export class StateWatch {
  readonly #held: Float32Array;
  readonly #share: Float32Array;
  readonly #seconds: Float32Array;

  constructor(rows: number) {
    this.#held = new Float32Array(rows);
    this.#share = new Float32Array(rows);
    this.#seconds = new Float32Array(rows);
  }

  take(row: number, from: StateWatch, other: number): void {
    this.#held[row] = from.#held[other]!;
    this.#share[row] = from.#share[other]!;
    this.#seconds[row] = from.#seconds[other]!;
  }

  rearm(row: number): void {
    this.#held[row] = 0;
  }

  /** How many times `persistMs` it has held, at least 1; 0 while it is no news. `seconds`: since the tick before. */
  step(row: number, holds: boolean, seconds: number, persistMs: number): number {
    const watched = this.#seconds[row]!;
    const held = this.#held[row]! + (holds ? seconds : -RELIEF * seconds);
    this.#held[row] = held > 0 ? Math.min(held, (4 * persistMs) / 1000) : 0;
    const times = (held * 1000) / persistMs;
    const unusual = holds && times >= 1 && watched >= LEAST_SECONDS && this.#share[row]! < USUAL_SHARE;
    const gain =
      (seconds / (seconds + Math.min(watched, MEMORY_SECONDS))) * (unusual ? LEARNING_WHILE_UNUSUAL : 1);
    this.#share[row]! += gain * ((holds ? 1 : 0) - this.#share[row]!);
    this.#seconds[row] = Math.min(1e7, watched + seconds);
    return unusual ? times : 0;
  }
}
