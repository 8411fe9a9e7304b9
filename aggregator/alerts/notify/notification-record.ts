/** What became of a notification, for lists. */
export interface NotificationRecord {
  readonly id: string;
  readonly receiver: string;
  /** Of the receiver. */
  readonly kind: string;
  readonly state: 'waiting' | 'sent' | 'dead';
  readonly title: string;
  /** The other side's words where it was not taken. */
  readonly why: string;
  readonly attempts: number;
  /** Unix ms: when it was made, and when it was taken, 0 for not. */
  readonly atMs: number;
  readonly sentAtMs: number;
  /** How many alerts. */
  readonly firing: number;
  readonly resolved: number;
  readonly severity: 'info' | 'warning' | 'critical';
}
