import { METRIC, PEER_METRICS } from '../peers/peer-metrics.ts';
import type { PeerDeviations } from '../peers/peer-row.ts';
import type { Finding } from './anomaly.ts';
import { LastingScores } from './lasting-score.ts';
import { ISOLATION, ROW_DETECTORS, RowModel } from './row-model.ts';

export interface RowDetectorsOptions {
  /** Seeded: the same rows give the same findings. */
  readonly random: () => number;
  /** PCA residual. Off where not given: see `RowDetectors`. */
  readonly pca?: boolean;
  /** Isolation forest. Off where not given: see `RowDetectors`. */
  readonly isolation?: boolean;
  /** 200,000 where not given. Rows of more GPUs are not looked at. */
  readonly maxGpus?: number;
  /** How often a row of each GPU comes; 30 s where not given. */
  readonly intervalMs?: number;
  /** Four minutes where not given, as for peers. */
  readonly persistMs?: number;
  /** For each GPU and week, of each detector; 0.02 where not given. */
  readonly falseAlarms?: number;
}

/** Models that rows are learned of: 1.1 MB each with the forest. */
const MAX_MODELS = 64;
/** Raised until the strength is below this. Own judgement. */
const OVER_BELOW = 0.7;
/** Floors by which some metric must be off: less may be rare, and is too little to send anybody. Own judgement. */
const LEAST_DEVIATION = 3;
/** A strength that raises nothing. */
const BELOW = 0.5;
/** After a pause nothing has lasted. */
const LONGEST_PAUSE_INTERVALS = 3;
/** What was said of a GPU without rows for so long says nothing of now. */
const SILENT_MS = 600_000;
const WEEK_MS = 7 * 86_400_000;
const NO_FINDINGS: readonly Finding[] = [];

/** Gauges that move together where something is wrong: heat with power, power with clock and work. */
const COLUMNS: readonly number[] = [
  METRIC.core,
  METRIC.memory,
  METRIC.clock,
  METRIC.watts,
  METRIC.tensor,
  METRIC.links,
  METRIC.memoryUsed,
  METRIC.idleWatts,
];

/**
 * How a GPU stands beside its peers, as a row, against what such rows are like for its model: PCA residual and isolation
 * forest, with thresholds from the tail of their own scores for a budget of false alarms. `take` a row of each GPU after
 * each round of PeerWatch. Raw metrics would not do: the rarest thing in them is a fleet that is idle.
 *
 * Both are off by default. On simulated nodes the residual found the sibling-visible faults that PeerWatch finds, with
 * no false alarm in 17 GPU-weeks, which is too few to prove the budget; beyond them only some frozen sensors, which have a
 * detector of their own. The forest found thermal runaways alone, and raised one false alarm in that time.
 */
export class RowDetectors {
  readonly #options: RowDetectorsOptions;
  readonly #maxGpus: number;
  readonly #intervalMs: number;
  readonly #alarmProbability: number;
  readonly #lasting: LastingScores;
  readonly #raised: Uint8Array;
  readonly #models = new Map<string, RowModel>();
  readonly #gpus = new Map<string, number>();
  readonly #free: number[] = [];
  readonly #seenMs: Float64Array;
  /** By GPU and detector: what it last said. */
  readonly #strength: Float32Array;
  readonly #value: Float64Array;
  readonly #expected: Float64Array;
  readonly #column: Uint8Array;
  readonly #row = new Float64Array(COLUMNS.length);

  constructor(options: RowDetectorsOptions) {
    this.#options = options;
    this.#maxGpus = options.maxGpus ?? 200_000;
    this.#intervalMs = options.intervalMs ?? 30_000;
    const persistMs = options.persistMs ?? 240_000;
    // Rows of one excursion come together, and one that counts lasts this long: so many rows for each alarm.
    this.#alarmProbability = ((options.falseAlarms ?? 0.02) * persistMs) / WEEK_MS;
    const cells = this.#maxGpus * ROW_DETECTORS.length;
    this.#lasting = new LastingScores(cells, persistMs / this.#intervalMs);
    this.#raised = new Uint8Array(cells);
    this.#seenMs = new Float64Array(this.#maxGpus);
    this.#strength = new Float32Array(cells);
    this.#value = new Float64Array(cells);
    this.#expected = new Float64Array(cells);
    this.#column = new Uint8Array(cells);
  }

  /** `row` as PeerWatch gives it; `nowMs` by the monotonic clock. Without any comparison there is no row. */
  take(uuid: string, model: string, row: PeerDeviations, nowMs: number): void {
    if (!this.#fill(row)) return;
    const gpu = this.#place(uuid);
    const rows = this.#modelOf(model);
    if (gpu < 0 || rows === undefined) return;
    const paused = nowMs - this.#seenMs[gpu]! > LONGEST_PAUSE_INTERVALS * this.#intervalMs;
    this.#seenMs[gpu] = nowMs;
    const farthest = this.#farthest();
    const scores = rows.take(this.#row, nowMs);
    for (let detector = 0; detector < ROW_DETECTORS.length; detector++) {
      const cell = gpu * ROW_DETECTORS.length + detector;
      if (paused) this.#lasting.clear(cell);
      const lasting = this.#lasting.push(cell, scores[detector]!);
      const over = Number.isNaN(lasting) ? 0 : rows.strength(detector, lasting);
      const strength = farthest >= LEAST_DEVIATION ? over : Math.min(over, BELOW);
      this.#strength[cell] = strength;
      this.#raised[cell] = strength >= 1 || (this.#raised[cell] === 1 && strength >= OVER_BELOW) ? 1 : 0;
      if (strength >= 1) this.#say(cell, detector, rows, row);
    }
  }

  /** What has persisted. */
  findingsOf(uuid: string, nowMs: number): readonly Finding[] {
    const gpu = this.#gpus.get(uuid);
    if (gpu === undefined) return NO_FINDINGS;
    let found: Finding[] | undefined;
    for (const [index, detector] of ROW_DETECTORS.entries()) {
      const cell = gpu * ROW_DETECTORS.length + index;
      if (this.#raised[cell] === 0 || nowMs - this.#seenMs[gpu]! > SILENT_MS) continue;
      const { signal } = PEER_METRICS[COLUMNS[this.#column[cell]!]!]!;
      const strength = this.#strength[cell]!;
      found ??= [];
      found.push({
        detector,
        signal,
        value: this.#value[cell]!,
        expected: this.#expected[cell]!,
        strength,
      });
    }
    return found ?? NO_FINDINGS;
  }

  /** A GPU that is gone makes room for another. */
  forget(uuid: string): void {
    const gpu = this.#gpus.get(uuid);
    if (gpu === undefined) return;
    this.#gpus.delete(uuid);
    this.#free.push(gpu);
    for (let i = 0; i < ROW_DETECTORS.length; i++) this.#end(gpu * ROW_DETECTORS.length + i);
  }

  #end(cell: number): void {
    this.#lasting.clear(cell);
    this.#raised[cell] = 0;
  }

  #place(uuid: string): number {
    let gpu = this.#gpus.get(uuid);
    if (gpu !== undefined) return gpu;
    if (this.#gpus.size >= this.#maxGpus) return -1;
    gpu = this.#free.pop() ?? this.#gpus.size;
    this.#gpus.set(uuid, gpu);
    return gpu;
  }

  #modelOf(model: string): RowModel | undefined {
    let rows = this.#models.get(model);
    if (rows !== undefined || this.#models.size >= MAX_MODELS) return rows;
    const { random, pca = false, isolation = false } = this.#options;
    const alarmProbability = this.#alarmProbability;
    rows = new RowModel({ columns: COLUMNS.length, random, alarmProbability, pca, isolation });
    this.#models.set(model, rows);
    return rows;
  }

  /** A metric that was not compared counts as like its peers'. */
  #fill({ deviations }: PeerDeviations): boolean {
    let any = false;
    for (let i = 0; i < COLUMNS.length; i++) {
      const value = deviations[COLUMNS[i]!]!;
      any ||= !Number.isNaN(value);
      this.#row[i] = Number.isNaN(value) ? 0 : value;
    }
    return any;
  }

  #farthest(): number {
    let farthest = 0;
    for (let i = 0; i < COLUMNS.length; i++) farthest = Math.max(farthest, Math.abs(this.#row[i]!));
    return farthest;
  }

  /** Which metric it is, of a row that is over the threshold. */
  #say(cell: number, detector: number, rows: RowModel, row: PeerDeviations): void {
    const column = detector === ISOLATION ? this.#loneliest(rows) : rows.pca.worst;
    this.#column[cell] = column;
    this.#value[cell] = row.values[COLUMNS[column]!]!;
    this.#expected[cell] = row.expected[COLUMNS[column]!]!;
  }

  /** The column without whose oddness, its peers' put in its place, the row is most like the others. */
  #loneliest(rows: RowModel): number {
    let lowest = Number.POSITIVE_INFINITY;
    let column = 0;
    for (let i = 0; i < COLUMNS.length; i++) {
      const own = this.#row[i]!;
      this.#row[i] = 0;
      const score = rows.isolationScore(this.#row);
      this.#row[i] = own;
      if (score >= lowest) continue;
      lowest = score;
      column = i;
    }
    return column;
  }
}
