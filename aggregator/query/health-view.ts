import type { GpuHealth, HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type {
  Anomaly,
  HealthScope,
  HealthTransition,
  InjectAnomalyRequest,
  NodeMark,
  Pattern,
  RejectedSample,
  ScopeHealth,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import type { ListRow } from './fleet-view.ts';

/** Health as queries need it, beside FleetView. Everything is read at the moment of the call. */
export interface HealthView {
  /** A node, a pool, or the fleet (whose name is empty), with its parts; undefined where it is not known. */
  scope(
    scope: HealthScope,
    name: string,
  ): { readonly health: ScopeHealth; readonly parts: readonly ScopeHealth[] } | undefined;
  /** Newest first. `cursor` is empty, or what the page before gave as `next`, which is empty after the last one. */
  transitions(
    filter: TransitionQuery,
    size: number,
    cursor: string,
  ): Promise<{ readonly transitions: readonly HealthTransition[]; readonly next: string }>;
  /** Newest first. */
  anomalies(filter: AnomalyQuery): readonly ListRow<Anomaly>[];
  /** Empty kind: all. */
  patterns(kind: string): readonly Pattern[];
  /** Newest first, at most 1,000; of all nodes where none is named. */
  rejected(node: string): {
    readonly samples: readonly RejectedSample[];
    readonly totals: Readonly<Partial<Record<string, number>>>;
  };
  marks(): readonly NodeMark[];
  /** Throws `not_found` for a node that was never seen, `invalid_input` for a mark or end that is none. */
  mark(mark: MarkOrder): Promise<NodeMark>;
  /** Throws `not_found` where the node has no mark. */
  unmark(node: string, why: string, by: string): Promise<void>;
  /** Throws `not_found` for a GPU that was never seen, `invalid_input` for a cause that is none. */
  clear(uuid: string, cause: string, why: string, by: string): GpuHealth;
  /** Throws `not_found`, or `invalid_input` for what cannot be made. */
  inject(order: InjectAnomalyRequest, by: string): Anomaly;
}

/** Empty texts and a state of 0 match everything, an absent end is open. */
export interface TransitionQuery {
  readonly node: string;
  readonly gpuUuid: string;
  readonly to: HealthState;
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
}

export interface AnomalyQuery {
  readonly node: string;
  readonly gpuUuid: string;
  readonly includeEnded: boolean;
}

export interface MarkOrder {
  readonly node: string;
  readonly mark: string;
  readonly why: string;
  readonly by: string;
  readonly untilMs: number | undefined;
}
