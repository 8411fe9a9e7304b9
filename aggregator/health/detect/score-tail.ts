/** Scores kept: enough that a threshold at one in fifty has eighty above it. */
const KEPT = 4096;
/** The tail is what lies above this quantile: its excesses are taken for exponential. */
const TAIL_FROM = 0.98;
/** Below so many scores there is no threshold. */
const LEAST = 1000;

/**
 * Which score is passed with a given probability: peaks over a threshold with an exponential tail, the generalised Pareto
 * law with shape 0 (Siffer et al., "Anomaly detection in streams with extreme value theory", KDD 2017, fit the shape too).
 * Of a sample drawn evenly from all scores so far, of which older ones fade: a reservoir that goes on replacing.
 */
export class ScoreTail {
  readonly #scores = new Float64Array(KEPT);
  readonly #random: () => number;
  #count = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  get ready(): boolean {
    return this.#count >= LEAST;
  }

  add(score: number): void {
    if (Number.isNaN(score)) return;
    if (this.#count < KEPT) this.#scores[this.#count++] = score;
    else this.#scores[Math.floor(this.#random() * KEPT)] = score;
  }

  clear(): void {
    this.#count = 0;
  }

  /** Infinite until there are enough scores. */
  threshold(probability: number): number {
    if (!this.ready) return Number.POSITIVE_INFINITY;
    const sorted = this.#scores.slice(0, this.#count).sort();
    const from = Math.floor(TAIL_FROM * this.#count);
    const above = this.#count - from;
    const start = sorted[from]!;
    let excess = 0;
    for (let i = from; i < this.#count; i++) excess += sorted[i]! - start;
    return start + (excess / above) * Math.log(above / this.#count / probability);
  }
}
