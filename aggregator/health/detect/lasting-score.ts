/** Rows looked back on at most. */
const MAX_ROWS = 64;

/**
 * The least score of the last rows of each series: how unusual it has been all that time. Taken before the threshold,
 * so that the threshold is of what lasts: transients, when a job begins, are long over by then.
 */
export class LastingScores {
  readonly #rows: number;
  readonly #scores: Float32Array;
  readonly #count: Uint8Array;
  readonly #next: Uint8Array;

  constructor(series: number, rows: number) {
    this.#rows = Math.max(1, Math.min(MAX_ROWS, Math.ceil(rows)));
    this.#scores = new Float32Array(series * this.#rows);
    this.#count = new Uint8Array(series);
    this.#next = new Uint8Array(series);
  }

  clear(series: number): void {
    this.#count[series] = 0;
    this.#next[series] = 0;
  }

  /** NaN until there are enough rows. A NaN begins anew. */
  push(series: number, score: number): number {
    if (Number.isNaN(score)) {
      this.clear(series);
      return score;
    }
    const rows = this.#rows;
    const next = this.#next[series]!;
    const first = series * rows;
    this.#scores[first + next] = score;
    this.#next[series] = (next + 1) % rows;
    if (this.#count[series]! < rows) this.#count[series]!++;
    if (this.#count[series]! < rows) return Number.NaN;
    let least = Number.POSITIVE_INFINITY;
    for (let i = first; i < first + rows; i++) least = Math.min(least, this.#scores[i]!);
    return least;
  }
}
