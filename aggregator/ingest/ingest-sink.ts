import type { Block, Source } from '#shared/model/block.ts';
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
}

/** The stage below ingest. It reads a block only during the call: its arrays are decoder state. */
export interface IngestSink {
  connected(peer: Peer): void;
  disconnected(peer: Peer): void;
  /** Live state and alerts are done when this returns; the outcome follows when the store has answered. */
  block(block: Block): Promise<Outcome>;
  /** Resolves when the event cannot be lost any more. */
  event(source: Source, event: FleetEvent, late: boolean): Promise<Outcome>;
  loss(source: Source, loss: Loss): Promise<Outcome>;
  readonly store: StoreStatus;
}
