/** One record of a kernel log. */
export interface LogRecord {
  /** 0 is the kernel itself; anything else a program wrote to the kernel's log. */
  readonly facility: number;
  /** Microseconds since boot by the kernel's own clock. */
  readonly usec: number;
  /** Unix ms, where the source stamped it. */
  readonly wallMs: number | undefined;
  /** Boot id, where the source names it; else this boot's. */
  readonly boot: string | undefined;
  readonly text: string;
}

/** What one look at the source gave, besides the records. */
export interface LookedAt {
  /** Records that were overwritten, or refused, before they could be read. */
  readonly lost: number;
  /** Records that could not be read. */
  readonly malformed: number;
  /** Everything that is there was read. */
  readonly drained: boolean;
}

/** Where kernel lines come from. Reads never wait for a line that has not come. */
export interface LogSource extends AsyncDisposable {
  /** For people: `/dev/kmsg`. */
  readonly what: string;
  /** Where it is, so that the next start goes on there. */
  readonly cursor: string;
  /**
   * Gives what has come since the last look, a bounded number. Throws a FleetError (`permission_denied`,
   * `unavailable`) where the source cannot be read.
   */
  look(take: (record: LogRecord) => void, signal: AbortSignal): Promise<LookedAt>;
}
