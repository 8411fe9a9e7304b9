import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type {
  Action,
  ActionState,
  AuditEntry,
  NotificationInfo,
  NotificationState,
  RuleInfo,
  Silence,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import type { ListRow } from './fleet-view.ts';

/** What is done about alerts, as queries need it, beside FleetView. `by` is who asks, for the record. */
export interface AlertingView {
  /** Throws `not_found`, `invalid_input` for an alert that does not fire. */
  acknowledge(id: string, comment: string, by: string): Promise<Alert>;
  withdrawAcknowledgement(id: string, by: string): Promise<Alert>;
  /** Sorted by id. */
  silences(expired: boolean): readonly Silence[];
  /** Throws `invalid_input`, `not_found` for an id that is none, `unavailable` while nothing can be changed. */
  setSilence(order: SilenceOrder, by: string): Promise<Silence>;
  expireSilence(id: string, by: string): Promise<Silence>;
  rules(): {
    /** Sorted by name. */
    readonly rules: readonly RuleInfo[];
    readonly loadedAtMs: number;
    readonly fault: string;
  };
  /** Throws `invalid_input` with every fault of the file. */
  reloadRules(by: string): Promise<{
    readonly rules: number;
    readonly added: number;
    readonly changed: number;
    readonly removed: number;
  }>;
  /** Newest first. */
  notifications(filter: {
    readonly state: NotificationState;
    readonly receiver: string;
  }): readonly ListRow<NotificationInfo>[];
  /** Of dead letters, all of them where none is named. Throws `not_found`. */
  resend(ids: readonly string[], by: string): Promise<number>;
  /** Newest first. */
  actions(filter: { readonly state: ActionState; readonly node: string }): readonly ListRow<Action>[];
  /** Each throws `not_found`, `invalid_input` where its state does not allow it, `unavailable`. */
  approve(id: string, comment: string, by: string): Promise<Action>;
  reject(id: string, comment: string, by: string): Promise<Action>;
  undo(id: string, comment: string, by: string): Promise<Action>;
  /** Newest first. `cursor` is empty, or what the page before gave as `next`, which is empty after the last one. */
  audit(
    filter: AuditQuery,
    size: number,
    cursor: string,
  ): Promise<{ readonly entries: readonly AuditEntry[]; readonly next: string }>;
}

export interface SilenceOrder {
  /** Empty for a new one. */
  readonly id: string;
  /** In Alertmanager's syntax. */
  readonly matchers: readonly string[];
  /** Undefined: now. */
  readonly startsAtMs: number | undefined;
  readonly endsAtMs: number;
  readonly comment: string;
}

/** Empty texts match everything, an absent end is open. */
export interface AuditQuery {
  readonly node: string;
  readonly who: string;
  readonly subject: string;
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
}
