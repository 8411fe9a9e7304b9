import type { Source } from './block.ts';
import type { Series } from './dictionary.ts';

/** Why a sample is kept out of live values, health and alerts. A fixed set: it is a label of a metric. */
export type RejectionReason =
  /** Finite, and outside the catalogue's physical range. */
  | 'out_of_range'
  /** A counter below zero. */
  | 'negative_counter'
  | 'not_finite'
  | 'not_a_number'
  /** The whole tick: its time is further ahead of this process's clock than is tolerated. */
  | 'from_the_future'
  /** The whole tick: it came as live, and is older than an agent keeps anything. */
  | 'too_old'
  /** The agent refused it: it sent the state and no value. */
  | 'quarantined_by_agent';

export interface RejectedSample {
  /** Undefined where the whole tick was rejected for its time. */
  readonly series: Series | undefined;
  /** As the source said it; undefined where the agent did not send it, or for a whole tick. */
  readonly value: number | undefined;
  readonly reason: RejectionReason;
  /** The range that it had to be in. */
  readonly low: number;
  readonly high: number;
  /** Samples that this stands for: 1, or all of the tick. */
  readonly count: number;
}

/** What was rejected of one tick. */
export interface RejectedTick {
  readonly source: Source;
  readonly group: string;
  /** Unix ms, as the agent said. */
  readonly timestampMs: number;
  readonly live: boolean;
  readonly samples: readonly RejectedSample[];
  /** Rejected samples beyond those listed. */
  readonly omitted: number;
}
