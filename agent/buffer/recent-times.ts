/** Some minutes of several sources: what waits for the store is seldom older, and 8 kB hold it. */
const KEPT = 1024;

/** When the newest records of the live run were recorded: asked every few seconds, and a read costs 0.5 ms. */
export class RecentTimes {
  /** By sequence modulo KEPT; NaN where the record has no time of its own. */
  readonly #times = new Float64Array(KEPT).fill(Number.NaN);
  #last = 0;

  /** Unix ms; the sequences follow each other. */
  note(sequence: number, timeMs: number | undefined): void {
    this.#times[sequence % KEPT] = timeMs ?? Number.NaN;
    this.#last = sequence;
  }

  /** Unix ms of the record, or of the nearest later one with a time; undefined where that is not known here. */
  from(sequence: number): number | undefined {
    if (sequence <= this.#last - KEPT) return undefined;
    for (let at = sequence; at <= this.#last; at++) {
      const time = this.#times[at % KEPT]!;
      if (!Number.isNaN(time)) return time;
    }
    return undefined;
  }
}
