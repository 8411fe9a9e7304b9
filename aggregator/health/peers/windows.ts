/** Samples that a value is denoised over: four minutes at 30 s, as long as an anomaly must persist. */
const WINDOW_SAMPLES = 8;
/** Fewer say nothing. */
const LEAST_SAMPLES = 3;

/** The last samples of many series, and their mean without the lowest and the highest. 37 bytes a series. */
export class Windows {
  readonly #samples: Float32Array;
  readonly #count: Uint8Array;
  readonly #next: Uint8Array;

  constructor(series: number) {
    this.#samples = new Float32Array(series * WINDOW_SAMPLES);
    this.#count = new Uint8Array(series);
    this.#next = new Uint8Array(series);
  }

  push(series: number, value: number): void {
    const next = this.#next[series]!;
    this.#samples[series * WINDOW_SAMPLES + next] = value;
    this.#next[series] = (next + 1) % WINDOW_SAMPLES;
    if (this.#count[series]! < WINDOW_SAMPLES) this.#count[series]!++;
  }

  clear(series: number): void {
    this.#count[series] = 0;
    this.#next[series] = 0;
  }

  /** NaN while there are too few samples. One wild sample changes nothing. */
  denoised(series: number): number {
    const count = this.#count[series]!;
    if (count < LEAST_SAMPLES) return Number.NaN;
    const first = series * WINDOW_SAMPLES;
    let sum = 0;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = first; i < first + count; i++) {
      const value = this.#samples[i]!;
      sum += value;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return (sum - low - high) / (count - 2);
  }
}
