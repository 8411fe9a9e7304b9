/** A doubt that nobody had an opinion on for so long is dropped: peers left, or the job ended. */
const SILENT_MS = 600_000;

/**
 * Says when something has been unusual for long enough: time counts up while it is, and down twice as fast while it is
 * not, so that noise that rotates from one to the next never gets there.
 */
export class Persistence {
  readonly #afterMs: number;
  readonly #heldMs: Float32Array;
  readonly #saidMs: Float64Array;
  readonly #raised: Uint8Array;

  constructor(series: number, afterMs: number) {
    this.#afterMs = afterMs;
    this.#heldMs = new Float32Array(series);
    this.#saidMs = new Float64Array(series);
    this.#raised = new Uint8Array(series);
  }

  note(series: number, unusual: boolean, elapsedMs: number, nowMs: number): void {
    this.#saidMs[series] = nowMs;
    const held = this.#heldMs[series]! + (unusual ? elapsedMs : -2 * elapsedMs);
    this.#set(series, Math.max(0, Math.min(2 * this.#afterMs, held)));
  }

  /** Whether it is raised now: from `afterMs` of it until it has all run off. */
  raised(series: number, nowMs: number): boolean {
    if (this.#heldMs[series]! > 0 && nowMs - this.#saidMs[series]! > SILENT_MS) this.#set(series, 0);
    return this.#raised[series] === 1;
  }

  clear(series: number): void {
    this.#set(series, 0);
  }

  #set(series: number, heldMs: number): void {
    this.#heldMs[series] = heldMs;
    if (heldMs >= this.#afterMs) this.#raised[series] = 1;
    else if (heldMs === 0) this.#raised[series] = 0;
  }
}
