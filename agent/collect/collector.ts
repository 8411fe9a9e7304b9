import type { Tick } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';

/**
 * A source of samples. The scheduler calls `collect` at the source's interval, never twice at once, with a
 * signal that aborts at the deadline; `dispose` once, after the last collect has settled.
 *
 * A collector maps: it gives canonical series (see shared/catalogue) with converted values. It throws a
 * FleetError where the source could not be read at all; what it could not read of a source that answered is a
 * slot state, not a throw.
 */
export interface Collector extends AsyncDisposable {
  /** Unique among the running collectors; the group of its dictionaries, and the label `source` of self-metrics. */
  readonly name: string;
  readonly intervalMs: number;
  collect(signal: AbortSignal): Promise<Reading>;
}

/**
 * One read of a source. `values` and `states` belong to the collector and are valid until its next collect;
 * `dictionary` is the same object as long as the series are the same.
 */
export interface Reading extends Tick {
  /** What happened since the last read. */
  readonly events: readonly FleetEvent[];
  /** What the source said that was not usable, by reason; empty for most reads. */
  readonly rejected: ReadonlyMap<RejectReason, number>;
}

export type RejectReason =
  /** A line that is not Prometheus text. */
  | 'malformed'
  /** DCGM's and nvidia-smi's "not supported" values. */
  | 'blank'
  /** Outside the catalogue's physical range. */
  | 'out_of_range'
  | 'not_a_number'
  /** Over the series limit of the node. */
  | 'series_limit'
  /** Too many labels, or one too long. */
  | 'label_limit'
  /** The same series twice in one read: the first wins. */
  | 'duplicate';
