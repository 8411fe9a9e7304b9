/** How one source does, for people and scripts. */
export interface SourceStatus {
  readonly name: string;
  /** What it reads, in one line. */
  readonly what: string;
  readonly state: SourceStateName;
  /** Why it is failing, or where it is stuck; empty while it reads. */
  readonly reason: string;
  readonly interval_ms: number;
  /** Unix ms of the last read that worked; null where none did. */
  readonly last_read_ms: number | null;
  readonly series: number;
  /** Reads that failed as a whole, since the start. */
  readonly failures: number;
  /** Ticks without a read, since the start. */
  readonly missed_ticks: number;
  /** What it said that could not be used, since the start, by reason. */
  readonly rejected: Readonly<Record<string, number>>;
  /** Series of the newest tick, by state: see SLOT_STATE_NAMES. */
  readonly slots: Readonly<Record<string, number>>;
}

export type SourceStateName =
  /** Not read yet. */
  | 'waiting'
  | 'reading'
  /** The last read failed. */
  | 'failing'
  /** A process of it was asked to end and does not: it hangs in the kernel. */
  | 'stuck'
  /** Taken away by `pause`. */
  | 'paused';

/** The stream to the aggregators. */
export interface UplinkStatus {
  readonly connected: boolean;
  /** host:port of the aggregator that is connected, or was tried last. */
  readonly aggregator: string;
  /** Why it is not connected; empty while it is. */
  readonly problem: string;
  /** This clock minus the aggregator's, milliseconds, as of the last connection; null before the first. */
  readonly clock_skew_ms: number | null;
  /** Records that no aggregator has taken yet, and about how many samples they hold. */
  readonly pending_records: number;
  readonly pending_samples: number;
  /** Unix ms of the oldest record that is not in the store for good; null where there is none. */
  readonly oldest_not_durable_ms: number | null;
}

export interface BufferStatus {
  readonly bytes: number;
  /** The ring's size: older records leave it. */
  readonly max_bytes: number;
  readonly writable: boolean;
  /** Records that are in memory alone, because the disk took none. */
  readonly unbuffered_records: number;
}

/** What a running agent says of itself: the JSON of `gpufleet-agent status --json`. */
export interface AgentStatus {
  readonly version: string;
  readonly cluster: string;
  readonly node: string;
  /** 128 bits in hexadecimal: this start of this agent. */
  readonly run: string;
  readonly pid: number;
  /** Unix ms by the agent's clock. */
  readonly now_ms: number;
  readonly started_ms: number;
  /** Unix ms at which collecting goes on by itself; null while it is not paused. */
  readonly paused_until_ms: number | null;
  readonly sources: readonly SourceStatus[];
  /** GPUs that the sources give series of, now. */
  readonly gpus: number;
  /** How many there should be, and who says so. */
  readonly expected_gpus: ExpectedGpus;
  readonly uplink: UplinkStatus;
  readonly buffer: BufferStatus;
  /** Samples that will never reach the store, since the start, by reason. */
  readonly lost_samples: Readonly<Record<string, number>>;
}

export interface ExpectedGpus {
  /** null where nobody knows. */
  readonly count: number | null;
  /** `config`: setting expected_gpus. `learnt`: the most that this node ever had. */
  readonly from: 'config' | 'learnt' | 'unknown';
}

/** A skew above this disturbs what is compared between nodes: two intervals at 1 s. */
const SKEW_LIMIT_MS = 2_000;
/** A source that reads is late after this many intervals. */
const LATE_INTERVALS = 3;
/** A read may take its time: never called late before. */
const LATE_MS = 15_000;

/** What is not as it should be, one sentence each; empty where all is well. */
export function troublesOf(status: AgentStatus): string[] {
  const { sources, uplink, buffer, expected_gpus: expected, paused_until_ms: pausedUntil } = status;
  const troubles: string[] = [];
  if (pausedUntil !== null)
    troubles.push(
      `Paused until ${new Date(pausedUntil).toISOString()}: sources that hold a GPU are not read`,
    );
  if (sources.length === 0) troubles.push('No source: nothing is collected; doctor says what was looked for');
  for (const source of sources) {
    const problem = sourceTrouble(source, status.now_ms);
    if (problem !== undefined) troubles.push(problem);
  }
  if (expected.count !== null && status.gpus < expected.count)
    troubles.push(`${expected.count - status.gpus} of ${expected.count} GPUs are missing (${expected.from})`);
  if (!uplink.connected)
    troubles.push(`Not connected to ${uplink.aggregator || 'an aggregator'}${suffix(uplink.problem)}`);
  if (Math.abs(uplink.clock_skew_ms ?? 0) > SKEW_LIMIT_MS)
    troubles.push(`This clock and the aggregator's differ by ${uplink.clock_skew_ms} ms`);
  if (!buffer.writable)
    troubles.push(`The buffer cannot be written: ${buffer.unbuffered_records} records are in memory alone`);
  for (const [reason, samples] of Object.entries(status.lost_samples))
    if (samples > 0) troubles.push(`${samples} samples were lost since the start (${reason})`);
  return troubles;
}

function sourceTrouble(source: SourceStatus, nowMs: number): string | undefined {
  const { name, state, reason, interval_ms: interval, last_read_ms: lastRead } = source;
  if (state === 'failing' || state === 'stuck') return `${name} is ${state}${suffix(reason)}`;
  if (state !== 'reading' || lastRead === null) return undefined;
  const ageMs = nowMs - lastRead;
  if (ageMs <= Math.max(LATE_MS, LATE_INTERVALS * interval)) return undefined;
  return `${name} was last read ${Math.round(ageMs / 1000)} s ago, and should be every ${interval / 1000} s`;
}

function suffix(reason: string): string {
  return reason === '' ? '' : `: ${reason}`;
}
