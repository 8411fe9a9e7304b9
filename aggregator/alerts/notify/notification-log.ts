import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AuditFact } from '../audit/audit-entry.ts';
import type { DeadNotifications } from './dead-notifications.ts';
import type { Delivery, Notification, Receiver } from './notification.ts';
import type { NotificationRecord } from './notification-record.ts';
import type { NotifyMetrics } from './notify-metrics.ts';
import type { EndpointSettings } from './notify-settings.ts';
import type { SendJob } from './send-job.ts';

export interface NotificationLogOptions {
  readonly audit: { write(fact: AuditFact): Promise<unknown> };
  readonly dead: DeadNotifications;
  readonly metrics: NotifyMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A notification was given up: for an alert about it. Must not throw. */
  readonly onDead:
    | ((endpoint: EndpointSettings, notification: Notification, why: string) => void)
    | undefined;
}

/** Notifications remembered as sent, for who asks. */
const MAX_RECORDS = 1_000;

/** What became of notifications: for lists, metrics and the log, and those that were given up. */
export class NotificationLog {
  readonly #options: NotificationLogOptions;
  /** Newest last. */
  readonly #sent: NotificationRecord[] = [];
  /** The last resending: one after the other, so that two who ask do not send a letter twice. */
  #resending: Promise<unknown> = Promise.resolve();

  constructor(options: NotificationLogOptions) {
    this.#options = options;
  }

  tried(job: SendJob, delivery: Delivery, tookMs: number): void {
    const { endpoint, notification } = job;
    const { logger, clock, metrics } = this.#options;
    metrics.count(endpoint, delivery.outcome);
    if (delivery.outcome !== 'sent') {
      logger.warn({ receiver: endpoint.id, why: delivery.why, attempts: job.attempts }, 'cannot notify');
      return;
    }
    logger.info({ receiver: endpoint.id, id: notification.id, kind: notification.kind, tookMs }, 'notified');
    if (notification.kind !== 'reminder') metrics.delay(clock.now() - notification.atMs);
    this.#sent.push(recordOfJob(job, 'sent', clock.now()));
    if (this.#sent.length > MAX_RECORDS) this.#sent.shift();
  }

  /** What was said again to a receiver that forgets: too often for a list. */
  refreshed(endpoint: EndpointSettings, delivery: Delivery): void {
    const { logger, metrics } = this.#options;
    metrics.count(endpoint, delivery.outcome);
    if (delivery.outcome !== 'sent')
      logger.warn({ receiver: endpoint.id, why: delivery.why }, 'cannot say again what still fires');
  }

  async bury(job: SendJob, why: string): Promise<void> {
    const { logger, onDead, metrics, dead } = this.#options;
    const { endpoint, notification, attempts } = job;
    metrics.count(endpoint, 'dead');
    logger.error(
      { receiver: endpoint.id, id: notification.id, title: notification.title, why },
      'gave up notifying',
    );
    try {
      await dead.add({ notification, endpoint: endpoint.id, why, attempts });
    } catch (thrown) {
      logger.error({ why: describeError(thrown) }, 'cannot write a dead notification to the disk');
    }
    onDead?.(endpoint, notification, why);
  }

  /** Newest first. */
  list(waiting: readonly SendJob[]): NotificationRecord[] {
    const dead = this.#options.dead.list().map(
      ({ notification, endpoint, why, attempts, atMs }): NotificationRecord => ({
        ...recordOf(notification, endpoint),
        ...{ state: 'dead', why, attempts, atMs, sentAtMs: 0 },
      }),
    );
    const open = waiting.map((job) => recordOfJob(job, 'waiting', 0));
    return [...open, ...this.#sent, ...dead].sort((a, b) => b.atMs - a.atMs);
  }

  /**
   * Sends dead letters again, oldest first, all where none is named, and returns how many were taken. Throws
   * `not_found` before anything is sent where one that is named, or its way to people, is not there.
   */
  resend(
    ids: readonly string[],
    by: string,
    receivers: ReadonlyMap<EndpointSettings, Receiver>,
  ): Promise<number> {
    const resent = this.#resending.then(() => this.#resendAll(ids, by, receivers));
    this.#resending = resent.catch(() => {});
    return resent;
  }

  async #resendAll(
    ids: readonly string[],
    by: string,
    receivers: ReadonlyMap<EndpointSettings, Receiver>,
  ): Promise<number> {
    const { dead } = this.#options;
    const letters = dead.list().reverse();
    const known = new Set(letters.map(({ notification }) => notification.id));
    for (const id of ids)
      if (!known.has(id))
        throw new FleetError(
          'not_found',
          `Cannot send ${id.slice(0, 64)} again: there is no such dead letter`,
        );
    const wanted = ids.length === 0 ? known : new Set(ids);
    const ways = new Map([...receivers].map((way) => [way[0].id, way]));
    for (const { notification, endpoint } of letters)
      if (ids.includes(notification.id) && !ways.has(endpoint))
        throw new FleetError(
          'not_found',
          `Cannot send ${notification.id} again: the notify file has no ${endpoint} any more`,
        );
    let sent = 0;
    // One that does not answer is not asked again for each of its letters.
    const silent = new Set<string>();
    for (const { notification, endpoint: name } of letters) {
      const found = ways.get(name);
      if (!wanted.has(notification.id) || found === undefined || silent.has(name)) continue;
      const outcome = await this.#resend(notification, ...found, by);
      if (outcome === 'sent') sent++;
      if (outcome === 'retry') silent.add(name);
    }
    return sent;
  }

  async #resend(
    notification: Notification,
    endpoint: EndpointSettings,
    receiver: Receiver,
    by: string,
  ): Promise<Delivery['outcome']> {
    const { audit, clock, metrics, dead } = this.#options;
    const { outcome } = await receiver.send(notification, AbortSignal.timeout(endpoint.timeoutMs));
    metrics.count(endpoint, outcome);
    if (outcome === 'sent') await dead.remove(notification.id);
    await audit.write({
      ...{ atMs: clock.now(), who: by, what: 'notification.resend', subject: notification.id },
      ...{ why: notification.title, cluster: notification.cluster, node: '', gpu: '' },
      after: { receiver: endpoint.id, outcome },
      result: outcome === 'sent' ? 'done' : outcome,
    });
    return outcome;
  }
}

function recordOfJob(job: SendJob, state: 'waiting' | 'sent', sentAtMs: number): NotificationRecord {
  return {
    ...recordOf(job.notification, job.endpoint.id),
    ...{ state, why: job.why, attempts: job.attempts, atMs: job.createdMs, sentAtMs },
  };
}

function recordOf(
  notification: Notification,
  endpoint: string,
): Omit<NotificationRecord, 'state' | 'why' | 'attempts' | 'atMs' | 'sentAtMs'> {
  const [receiver = '', kind = ''] = endpoint.split(':');
  const { id, title, severity, firingCount, resolvedCount } = notification;
  return { id, receiver, kind, title, severity, firing: firingCount, resolved: resolvedCount };
}
