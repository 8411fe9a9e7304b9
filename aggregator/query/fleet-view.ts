import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type {
  DeadLetter,
  Gpu,
  LatestSample,
  Loss,
  Node,
  NodeState,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { AlertingView } from './alerting-view.ts';
import type { HealthView } from './health-view.ts';

/**
 * The fleet as queries need it. Rows are cheap and sorted by key; a message is put together only for the rows of
 * a page. Everything is read at the moment of the call.
 */
export interface FleetView {
  readonly health: HealthView;
  readonly alerting: AlertingView;
  nodes(): readonly NodeRow[];
  node(name: string): NodeRow | undefined;
  gpu(uuid: string): GpuRow | undefined;
  alerts(): Iterable<Alert>;
  alert(id: string): Alert | undefined;
  /** An alert with what mutes it now, for who is to read it. */
  shown(alert: Alert): Alert;
  resolveAlert(
    id: string,
    comment: string,
    by: string,
  ): Promise<'resolved' | 'suppressed' | 'not_found' | 'not_active'>;
  /** Calls with each transition until disposed. */
  subscribe(listener: (alert: Alert) => void): Disposable;
  /** Entries of the loss ledger that match, newest first, and the samples of all of them. */
  losses(filter: LossQuery): { readonly rows: readonly ListRow<Loss>[]; readonly samples: number };
  /** Asks agents to send again. Throws `invalid_input` for a range that is none. */
  replay(order: ReplayQuery): Promise<{ readonly id: string; readonly agents: number }>;
  /** Newest first; of all nodes where none is named. */
  deadLetters(node: string): readonly ListRow<DeadLetter>[];
  /** All where none is named. Throws `not_found`, or `unavailable` where the store cannot be asked. */
  replayDeadLetters(ids: readonly string[]): Promise<{ readonly accepted: number; readonly refused: number }>;
}

/** Empty texts match everything, an absent end is open. */
export interface LossQuery {
  readonly node: string;
  readonly reason: string;
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
}

export interface ReplayQuery {
  readonly fromMs: number;
  /** 0: no end. */
  readonly toMs: number;
  /** Empty: all nodes. */
  readonly node: string;
  readonly comment: string;
}

/** A row whose key is its place in the list. */
export interface ListRow<Message> {
  readonly key: string;
  message(): Message;
}

export interface NodeRow {
  /** Cluster and name: unique, and the order of lists. */
  readonly key: string;
  readonly name: string;
  readonly state: NodeState;
  gpus(): readonly GpuRow[];
  /** The newest value of each series, in a stable order. */
  samples(): Iterable<SampleRow>;
  message(): Node;
}

export interface SampleRow {
  readonly name: string;
  /** Of its GPU; empty where it is not a GPU's. */
  readonly uuid: string;
  message(): LatestSample;
}

export interface GpuRow {
  /** Its node's key, a line break, and its place on the node. */
  readonly key: string;
  readonly node: string;
  readonly index: string;
  readonly uuid: string;
  readonly model: string;
  readonly healthState: HealthState;
  samples(): Iterable<LatestSample>;
  message(): Gpu;
}
