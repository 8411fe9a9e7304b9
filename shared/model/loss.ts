/** Samples that were recorded, or should have been, and that will never reach the store. */
export interface Loss {
  readonly fromMs: number;
  readonly toMs: number;
  readonly samples: number;
  readonly reason: LossReason;
  /** The count is an estimate. */
  readonly estimated: boolean;
  /** A sentence for people. */
  readonly detail: string;
}

export type LossReason =
  /** Aged or sized out of the buffer before it was durable. */
  | 'trimmed'
  /** A record failed its checksum, or a sequence is missing. */
  | 'corrupt'
  /** A run that the aggregator knew is no longer on the disk. */
  | 'run_vanished'
  /** Recorded while the disk could not be written, and gone with the process. */
  | 'unbuffered'
  /** The aggregator refused it for good. */
  | 'refused'
  /** The store answered 2xx and stored nothing. */
  | 'store_ignored';
