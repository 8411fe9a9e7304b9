import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** Where a notifier hears of alerts. */
export interface AlertFeed {
  /** False while it is not known which alerts there are: what is not in `alerts` may be there all the same. */
  readonly loaded: boolean;
  /** The last state of each. */
  alerts(): Iterable<Alert>;
  /** Tells of each transition and acknowledgement, until disposed. The listener must not throw. */
  subscribe(listener: (alert: Alert) => void): Disposable;
}
