import { symmetricEigen } from './pca-eigen.ts';

export interface PcaResidualOptions {
  /** Components are as many as explain this share of the variance; 0.9 where not given (own judgement). */
  readonly explained?: number;
  /** Rows after which what was learned weighs half; 20,000 where not given: a week of one GPU at 30 s. */
  readonly halfLifeRows?: number;
  /** Least deviation of a column, in its own unit; 1e-6 where not given. One that never moved is no news by a hair. */
  readonly leastScale?: number;
}

/** Ridge on T2's variances, as a share of the mean one: a component that hardly moves counts as one that moves this much. */
const RIDGE = 1e-3;

/**
 * Rows of metrics that go together: T2 says how far out a row is among what goes together, Q what of it goes together
 * with nothing (Jackson and Mudholkar, Technometrics 1979). Means and covariance forget exponentially; the components
 * are taken anew by `refresh`, which costs some 20 microseconds for eight columns. Learning and scoring allocate nothing.
 */
export class PcaResidual {
  readonly columns: number;
  readonly #explained: number;
  readonly #least: number;
  readonly #leastScale: number;
  readonly #mean: Float64Array;
  readonly #covariance: Float64Array;
  readonly #scale: Float64Array;
  readonly #z: Float64Array;
  readonly #step: Float64Array;
  #vectors: Float64Array = new Float64Array(0);
  #variances: Float64Array = new Float64Array(0);
  #components = 0;
  #rows = 0;
  /** Of the row scored last. */
  t2 = Number.NaN;
  q = Number.NaN;
  /** Column that has the largest part in the residual of the row scored last. */
  worst = 0;

  constructor(columns: number, options: PcaResidualOptions = {}) {
    this.columns = columns;
    this.#explained = options.explained ?? 0.9;
    this.#least = 1 - 0.5 ** (1 / (options.halfLifeRows ?? 20_000));
    this.#leastScale = options.leastScale ?? 1e-6;
    this.#mean = new Float64Array(columns);
    this.#covariance = new Float64Array(columns * columns);
    this.#scale = new Float64Array(columns);
    this.#z = new Float64Array(columns);
    this.#step = new Float64Array(columns);
  }

  get fitted(): boolean {
    return this.#components > 0;
  }

  get components(): number {
    return this.#components;
  }

  /** Row-major, as if learned one after another, then `refresh`. */
  fit(rows: Float64Array, columns: number): void {
    for (let first = 0; first + columns <= rows.length; first += columns) this.learn(rows, first);
    this.refresh();
  }

  /** Moves mean and covariance. A row with NaN is left out. */
  learn(rows: Float64Array, first = 0): void {
    const { columns } = this;
    for (let i = 0; i < columns; i++) if (Number.isNaN(rows[first + i]!)) return;
    const share = Math.max(this.#least, 1 / ++this.#rows);
    for (let i = 0; i < columns; i++) {
      this.#step[i] = rows[first + i]! - this.#mean[i]!;
      this.#mean[i]! += share * this.#step[i]!;
    }
    for (let i = 0; i < columns; i++) {
      const part = (1 - share) * this.#step[i]!;
      for (let j = 0; j < columns; j++) {
        const at = i * columns + j;
        this.#covariance[at]! += share * (part * this.#step[j]! - this.#covariance[at]!);
      }
    }
  }

  /** Takes the components of what was learned so far. */
  refresh(): void {
    const { columns } = this;
    if (this.#rows < 2) return;
    for (let i = 0; i < columns; i++)
      this.#scale[i] = Math.max(this.#leastScale, Math.sqrt(this.#covariance[i * columns + i]!));
    const correlation = new Float64Array(columns * columns);
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++)
        correlation[i * columns + j] =
          this.#covariance[i * columns + j]! / (this.#scale[i]! * this.#scale[j]!);
    // A column that moves less than the least scale counts as noise of that scale.
    for (let i = 0; i < columns; i++) correlation[i * columns + i] = 1;
    const { values, vectors } = symmetricEigen(correlation, columns);
    let total = 0;
    for (const value of values) total += Math.max(0, value);
    this.#vectors = vectors;
    this.#variances = values;
    this.#components = 0;
    for (let sum = 0; sum < this.#explained * total && this.#components < columns - 1; this.#components++)
      sum += values[this.#components]!;
    for (let i = 0; i < columns; i++)
      this.#variances[i] = Math.max(0, values[i]!) + (RIDGE * total) / columns;
  }

  /**
   * T2 by component plus Q by what is left, each over what is expected of it: about 2 for a common row. NaN before the
   * first `refresh` and for a row with NaN.
   */
  score(rows: Float64Array, first = 0): number {
    this.t2 = Number.NaN;
    this.q = Number.NaN;
    if (!this.fitted) return Number.NaN;
    const { columns } = this;
    let length = 0;
    for (let i = 0; i < columns; i++) {
      const z = (rows[first + i]! - this.#mean[i]!) / this.#scale[i]!;
      this.#z[i] = z;
      this.#step[i] = z;
      length += z * z;
    }
    if (Number.isNaN(length)) return Number.NaN;
    this.#project();
    let residual = 0;
    let expected = 0;
    for (let i = 0; i < columns; i++) residual += this.#step[i]! * this.#step[i]!;
    for (let i = this.#components; i < columns; i++) expected += this.#variances[i]!;
    this.q = residual;
    return this.t2 / this.#components + residual / expected;
  }

  /** What the components explain of `#z` goes from `#step`, and into `t2`. */
  #project(): void {
    const { columns } = this;
    let t2 = 0;
    for (let component = 0; component < this.#components; component++) {
      let along = 0;
      for (let i = 0; i < columns; i++) along += this.#vectors[component * columns + i]! * this.#z[i]!;
      t2 += (along * along) / this.#variances[component]!;
      for (let i = 0; i < columns; i++) this.#step[i]! -= along * this.#vectors[component * columns + i]!;
    }
    this.t2 = t2;
    this.worst = 0;
    for (let i = 1; i < columns; i++)
      if (Math.abs(this.#step[i]!) > Math.abs(this.#step[this.worst]!)) this.worst = i;
  }
}
