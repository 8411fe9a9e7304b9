import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';

/** What became of a record. */
export type Outcome =
  /** Where it must be, under this store incarnation. */
  | { readonly state: 'accepted'; readonly epoch: bigint }
  /** Evaluated, not stored: the agent keeps it and sends it again. */
  | { readonly state: 'deferred' }
  /** It will never be taken. */
  | { readonly state: 'refused'; readonly reason: string; readonly detail: string };

/** One run that an agent has on disk, as its Hello says. */
export interface PeerRun {
  /** Hex of the run's 128 bits. */
  readonly id: string;
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly cleanEnd: boolean;
}

/** How far behind an agent says it is. */
export interface AgentStatus {
  /** Unix ms of the oldest record that is not in the store for good; 0 where there is none. */
  readonly oldestUndurableMs: number;
  readonly pendingRecords: number;
  readonly pendingSamples: number;
  readonly samplesPerSecond: number;
  /** How long it was under way: it says nothing of what was recorded since it was sent. 0 where that is not known. */
  readonly lateMs: number;
}

/** Asks an agent to send again what it recorded between two moments, Unix ms; `toMs` 0 is no end. */
export interface ReplayOrder {
  readonly id: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly reason: string;
}

export interface StoreStatus {
  readonly epoch: bigint;
  readonly epochAgeMs: number;
  readonly backfillOpen: boolean;
}

/** Who is at the other end of a stream. */
export interface Peer {
  readonly source: Source;
  readonly address: string;
  readonly agentVersion: string;
  readonly machineId: string;
  /** The agent's wall clock minus ours at its Hello, seconds. */
  readonly clockSkewSeconds: number;
  /** Oldest first, the live one last. */
  readonly runs: readonly PeerRun[];
}

/** The stage below ingest. It reads a block only during the call: its arrays are decoder state. */
export interface IngestSink {
  connected(peer: Peer): void;
  disconnected(peer: Peer): void;
  status(peer: Peer, status: AgentStatus): void;
  /** Replays that this peer should do; it leaves out those that it has done. */
  replays(peer: Peer): readonly ReplayOrder[];
  /** Live state and alerts are done when this returns; the outcome follows when the store has answered. */
  block(block: Block): Promise<Outcome>;
  /** Backlog: stored, not evaluated. */
  span(span: BlockSpan): Promise<Outcome>;
  /** Resolves when the event cannot be lost any more. */
  event(source: Source, event: FleetEvent, late: boolean): Promise<Outcome>;
  /** `identity` is the record's (run and sequence): the same loss may come twice. */
  loss(source: Source, identity: string, loss: Loss): Promise<Outcome>;
  readonly store: StoreStatus;
}
