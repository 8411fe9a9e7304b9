import type { ExpectedGpus } from './agent-status.ts';

/** Something about a GPU that a diagnostic must clear. */
export interface GpuIncident {
  /** `xid 79`, `diagnostic`. */
  readonly what: string;
  /** A few words: `GPU has fallen off the bus`. */
  readonly name: string;
  /** Unix ms. */
  readonly at_ms: number;
}

/** What the job gate looks at, of one GPU. null: no source says. */
export interface GpuFacts {
  /** Index, empty where only an event named it. */
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** It does not answer, or fell off the bus. */
  readonly lost: boolean;
  /** Unix ms of the newest tick with a value of it, since the agent's start; null where there was none. */
  readonly last_read_ms: number | null;
  /** The interval of its source; null where no source has series of it and only an event told of it. */
  readonly interval_ms: number | null;
  readonly row_remap_failed: boolean | null;
  readonly row_remap_pending: boolean | null;
  /** Memory has errors that cannot be repaired, or the SRAM threshold for a replacement is exceeded. */
  readonly unrepairable: boolean | null;
  /** Uncorrected ECC errors since the driver was loaded. */
  readonly uncorrected_ecc_errors: number | null;
  /** What the driver asks for: see gpu_recovery_action; 0 nothing. */
  readonly recovery_action: number | null;
  /** Fatal Xids (and AMD's fatal RAS events) since boot that no passed diagnostic cleared, oldest first. */
  readonly fatal: readonly GpuIncident[];
  /** The last diagnostic, where it failed and none passed since: reboots do not clear it. */
  readonly failed_diagnostic: GpuIncident | null;
}

/** All that the job gate decides from. */
export interface GateFacts {
  /** Unix ms by the clock of who gathered them. */
  readonly now_ms: number;
  readonly expected_gpus: ExpectedGpus;
  readonly paused_until_ms: number | null;
  readonly aggregator_connected: boolean;
  readonly gpus: readonly GpuFacts[];
}
