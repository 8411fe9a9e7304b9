import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** One message to one receiver about one group of alerts. */
export interface Notification {
  /** The same for each try of one notification and for no other: receivers that can tell repeats apart get it. */
  readonly id: string;
  /** The same for all notifications of one group to one receiver, such as an incident key; at most 64 characters. */
  readonly groupKey: string;
  /** What the alerts have in common by the route's `group_by`. */
  readonly groupLabels: Readonly<Record<string, string>>;
  readonly cluster: string;
  /** Resolved where none of them fires any more. */
  readonly status: 'firing' | 'resolved';
  /** The worst of those that fire, or of all where none does. */
  readonly severity: 'info' | 'warning' | 'critical';
  /** `reminder` says again what was said; `storm` stands for many groups at once. */
  readonly kind: 'news' | 'reminder' | 'storm';
  /** Worst and newest first, at most `MAX_NOTIFIED_ALERTS` of each; the counts say how many there are. */
  readonly firing: readonly Alert[];
  readonly resolved: readonly Alert[];
  readonly firingCount: number;
  readonly resolvedCount: number;
  /** How often alerts of the group began to fire within the damping window, where that is too often; else 0. */
  readonly flaps: number;
  /** A sentence for people, at most 200 characters; and more, at most 4,000, plain text with line breaks. */
  readonly title: string;
  readonly text: string;
  /** Where the console shows them; empty where nobody said. */
  readonly link: string;
  /** Unix ms of the newest transition in it. */
  readonly atMs: number;
}

export const MAX_NOTIFIED_ALERTS = 50;

/** What became of one try. */
export type Delivery =
  | { readonly outcome: 'sent' }
  /** Worth another try: no answer, 5xx, 429. `afterMs` is what the other side asked for. */
  | { readonly outcome: 'retry'; readonly why: string; readonly afterMs?: number }
  /** Will never be taken as it is: 400, 401, an unknown channel. It becomes a dead letter. */
  | { readonly outcome: 'refused'; readonly why: string };

/** One way to people. Sends once; queues, retries, rate limits and dead letters are the dispatcher's. */
export interface Receiver extends AsyncDisposable {
  readonly kind: string;
  /**
   * The other side forgets (Alertmanager ends what it does not hear of): what it was told and still fires is sent
   * again at least this often, ms, as a reminder that no rate limit, silence or acknowledgement holds back. Small
   * groups go together. A failure is no dead letter: the next one says the same.
   */
  readonly refreshMs?: number;
  /** Never rejects. `signal` is the try's deadline. */
  send(notification: Notification, signal: AbortSignal): Promise<Delivery>;
}
