import type { Source } from '#shared/model/block.ts';

/** What looked at a series and found it unlike itself, its load, or its peers. */
export type DetectorName =
  /** Far from its own moving mean. */
  | 'level'
  /** A small shift that stays (CUSUM). */
  | 'shift'
  /** Drifts in one direction for hours. */
  | 'slope'
  /** A sensor that repeats one value while others of its GPU move. */
  | 'frozen'
  /** A counter that counts faster than it did. */
  | 'rate'
  /** Its distribution over its known range changed (relative entropy). */
  | 'entropy'
  /** A row of metrics that do not go together as they did (PCA residual). */
  | 'row'
  /** A row that few others are like (isolation forest). */
  | 'isolation'
  /** One GPU unlike its peers at the same load. */
  | 'peer'
  /** Slower than the others of its job. */
  | 'straggler';

/** One series' part in an anomaly. */
export interface AnomalyContribution {
  readonly detector: DetectorName;
  /** Canonical metric with the labels that tell it apart, as in a health contribution. */
  readonly signal: string;
  readonly value: number;
  /** What was expected instead; NaN where the detector knows none. */
  readonly expected: number;
  /** 1 is the threshold. */
  readonly strength: number;
}

/** An incident: everything unusual about one GPU within one time, as one event. */
export interface Anomaly {
  /** Stable from begin to end: of GPU, begin and first detector. */
  readonly id: string;
  readonly source: Source;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly startedMs: number;
  /** Last sample that was unusual. */
  readonly lastMs: number;
  /** When it was called over; undefined while it lasts. */
  readonly endedMs: number | undefined;
  /** Highest so far; 1 is the threshold. */
  readonly strength: number;
  /** Strongest first, at most MAX_ANOMALY_CONTRIBUTIONS. */
  readonly contributions: readonly AnomalyContribution[];
  /** Injected by an operator: marked as a test wherever it is shown. */
  readonly test: boolean;
  /** One sentence. */
  readonly text: string;
}

export const MAX_ANOMALY_CONTRIBUTIONS = 8;

/** One detector's opinion of one series at one tick. */
export interface Finding {
  readonly detector: DetectorName;
  readonly signal: string;
  readonly value: number;
  readonly expected: number;
  readonly strength: number;
}
