import type { Tick } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';

/**
 * A source of samples. The scheduler calls `collect` at the source's interval, never twice at once, with a
 * signal that aborts at the deadline; `dispose` once, after the last collect has settled.
 *
 * A collector maps: it gives canonical series (see shared/catalogue) with converted values. It throws a
 * FleetError where the source could not be read at all; what it could not read of a source that answered is a
 * slot state, not a throw.
 *
 * Nothing that can hang in the kernel or in a vendor's library is called in this process: see probe/.
 */
export interface Collector extends AsyncDisposable {
  /** Unique among the running collectors; the group of its dictionaries, and the label `source` of self-metrics. */
  readonly name: string;
  readonly intervalMs: number;
  /**
   * Where two collectors give the same series (name and labels), the one with the lower number is heard and the
   * other is counted: see SOURCE_RANK.
   */
  readonly rank: number;
  /** It keeps a GPU's driver or device files open between reads, or opens them: it is disposed while the agent is paused. */
  readonly holdsDevice: boolean;
  /** What it reads, in one line for people: `NVML 12.590.48.01 through /usr/lib/.../libnvidia-ml.so.1, 8 GPUs`. */
  describe(): string;
  collect(signal: AbortSignal): Promise<Reading>;
}

/** NVML over the exporter over nvidia-smi; sysfs over tools over exporters for AMD. A gap of ten for one in between. */
export const SOURCE_RANK = {
  nvml: 10,
  amd_sysfs: 10,
  dcgm_exporter: 20,
  amd_smi: 20,
  nvidia_smi: 30,
  rocm_smi: 30,
  device_metrics_exporter: 40,
  other: 50,
} as const;

/**
 * One read of a source. `values` and `states` belong to the collector and are valid until its next collect;
 * `dictionary` is the same object as long as the series are the same.
 */
export interface Reading extends Tick {
  /** What happened since the last read. */
  readonly events: readonly FleetEvent[];
  /** What the source said that was not usable, by reason; empty for most reads. */
  readonly rejected: ReadonlyMap<RejectReason, number>;
  /** Why the source could not be read, where `up` is 0: a sentence for people. */
  readonly problem?: string;
}

export type RejectReason =
  /** Text, JSON, XML or a line that could not be read. */
  | 'malformed'
  /** DCGM's and nvidia-smi's values that mean "nothing here". */
  | 'blank'
  /** Outside the catalogue's physical range. */
  | 'out_of_range'
  | 'not_a_number'
  /** Over the series limit of the node. */
  | 'series_limit'
  /** Too many labels, or one too long. */
  | 'label_limit'
  /** The same series twice in one read: the first wins. */
  | 'duplicate'
  /** Left out by the relabelling that the configuration asks for. */
  | 'dropped'
  /** Another source with a better rank gives the series. */
  | 'outranked';
