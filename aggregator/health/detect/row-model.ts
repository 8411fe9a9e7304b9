import { IsolationForest } from './isolation-forest.ts';
import { PcaResidual } from './pca-residual.ts';
import { ScoreTail } from './score-tail.ts';

const HOUR_MS = 3_600_000;
/** Rows before the first components, and before the first forest: twice what one of its trees is grown from. */
const FIRST_ROWS = 512;
/** Rows that a forest is fitted to, drawn evenly from those since the last one and before. */
const RESERVOIR_ROWS = 2048;
/** Load patterns change with jobs, which last hours. Own judgement. */
const REFIT_MS = 4 * HOUR_MS;
const REFRESH_MS = HOUR_MS;

/** Columns are in floors: less than what sensors resolve is no movement. */
const LEAST_SCALE = 1;

/** Which detectors look at a row, by index. */
export const ROW_DETECTORS = ['row', 'isolation'] as const;
const PCA = 0;
export const ISOLATION = 1;

export interface RowModelOptions {
  readonly columns: number;
  readonly random: () => number;
  /** Of a score that lasted, in a healthy fleet. */
  readonly alarmProbability: number;
  readonly pca: boolean;
  readonly isolation: boolean;
}

/** What rows of one GPU model are like. About 1.1 MB with the forest. */
export class RowModel {
  readonly pca: PcaResidual;
  readonly #forest: IsolationForest;
  readonly #options: RowModelOptions;
  readonly #tails: readonly ScoreTail[];
  readonly #thresholds = new Float64Array(ROW_DETECTORS.length).fill(Number.POSITIVE_INFINITY);
  readonly #reservoir: Float64Array;
  readonly #scores = new Float64Array(ROW_DETECTORS.length);
  #kept = 0;
  #rows = 0;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #refittedMs = Number.NEGATIVE_INFINITY;

  constructor(options: RowModelOptions) {
    const { columns, random } = options;
    this.#options = options;
    this.pca = new PcaResidual(columns, { leastScale: LEAST_SCALE });
    this.#forest = new IsolationForest({ random });
    this.#tails = ROW_DETECTORS.map(() => new ScoreTail(random));
    this.#reservoir = new Float64Array(RESERVOIR_ROWS * columns);
  }

  /** Scores of a row by detector, NaN while one is off or has seen too little; then it learns from the row. Reused. */
  take(row: Float64Array, nowMs: number): Float64Array {
    const { pca, isolation } = this.#options;
    const scores = this.#scores;
    scores[PCA] = pca ? this.pca.score(row) : Number.NaN;
    scores[ISOLATION] = isolation ? this.#forest.score(row) : Number.NaN;
    // What is far out teaches nothing; a forest is not moved by a few rows.
    if (!(scores[PCA]! >= this.#thresholds[PCA]!)) this.pca.learn(row);
    this.#rows++;
    this.#keep(row);
    this.#renew(nowMs);
    return scores;
  }

  /** How unusual a score that lasted is: 1 is the threshold, 0 while there is none. */
  strength(detector: number, lasting: number): number {
    this.#tails[detector]!.add(lasting);
    return lasting / this.#thresholds[detector]!;
  }

  /** The forest's score, for telling which column makes a row unlike the others. */
  isolationScore(row: Float64Array): number {
    return this.#forest.score(row);
  }

  #keep(row: Float64Array): void {
    const { columns, random } = this.#options;
    if (this.#kept < RESERVOIR_ROWS) this.#reservoir.set(row, this.#kept++ * columns);
    else {
      const place = Math.floor(random() * this.#rows);
      if (place < RESERVOIR_ROWS) this.#reservoir.set(row, place * columns);
    }
  }

  #renew(nowMs: number): void {
    if (this.#rows < FIRST_ROWS) return;
    const { pca, isolation, columns, alarmProbability } = this.#options;
    if (nowMs - this.#refreshedMs >= REFRESH_MS) {
      this.#refreshedMs = nowMs;
      if (pca) this.pca.refresh();
      for (let i = 0; i < ROW_DETECTORS.length; i++)
        this.#thresholds[i] = this.#tails[i]!.threshold(alarmProbability);
    }
    if (isolation && nowMs - this.#refittedMs >= REFIT_MS) {
      this.#refittedMs = nowMs;
      this.#forest.fit(this.#reservoir.subarray(0, this.#kept * columns), columns);
      // The rows of the next hours count as much as those of all before them.
      this.#rows = Math.min(this.#rows, RESERVOIR_ROWS);
    }
  }
}
