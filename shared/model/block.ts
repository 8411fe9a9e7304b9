import type { Dictionary, Labels } from './dictionary.ts';

/** Whose samples these are, as admitted by ingest. One object for each stream: stages may key on it. */
export interface Source {
  readonly cluster: string;
  readonly node: string;
  /** Configured external labels of the node, sorted by name; part of every series' identity. */
  readonly externalLabels: Labels;
}

/** All samples of one group of one node at one moment. */
export interface Tick {
  readonly dictionary: Dictionary;
  /** Unix milliseconds, the time at which the source was read. */
  readonly timestampMs: number;
  /** One value for each slot; meaningful where states[slot] is Present. Reused by its owner after the call. */
  readonly values: Float64Array;
  /** One SlotState for each slot. Reused by its owner after the call. */
  readonly states: Uint8Array;
}

/** A tick that an aggregator has decoded and admitted. */
export interface Block extends Tick {
  readonly source: Source;
  /** From the live lane: gauges are evaluated. Backlog is stored, its gauges are not evaluated. */
  readonly live: boolean;
}

/**
 * Backlog: several ticks of one dictionary, in order of time. Row-major, one row for each tick: the value of slot s
 * in tick t is values[t * slots + s]. Never live. The arrays are longer than needed and reused by their owner after
 * the call.
 */
export interface BlockSpan {
  readonly source: Source;
  readonly dictionary: Dictionary;
  /** Number of rows. */
  readonly ticks: number;
  /** Unix ms of each row, rising. */
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
  readonly states: Uint8Array;
}
