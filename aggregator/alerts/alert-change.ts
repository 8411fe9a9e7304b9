import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** What happened to an alert. */
export type AlertChange =
  /** The condition holds, but not yet for long enough. */
  | 'pending'
  /** The condition went before it had held for long enough. */
  | 'withdrawn'
  | 'fired'
  /** The severity of a firing alert rose or fell. */
  | 'severity'
  | 'resolved'
  /** An operator said that somebody works on it, or took that back. */
  | 'acknowledged'
  | 'unacknowledged'
  /** The condition of a suppressed alert cleared: it may fire again. */
  | 'released';

/** Called synchronously after each change; must not throw and must not call the engine. */
export type AlertListener = (alert: Alert, change: AlertChange) => void;

/** Whether a change counts as a transition, is published and kept over a restart. */
export function isTransition(change: AlertChange): boolean {
  return change !== 'pending' && change !== 'withdrawn' && change !== 'released';
}
