import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Notification } from './notification.ts';
import { packNotification, unpackNotification } from './notification-codec.ts';
import type { NotifyShelf } from './shelf-docs.ts';

/** A notification that was given up. */
export interface DeadNotification {
  readonly notification: Notification;
  readonly endpoint: string;
  readonly why: string;
  readonly attempts: number;
  /** Unix ms. */
  readonly atMs: number;
}

interface Kept extends Omit<DeadNotification, 'notification'> {
  readonly packed: string;
}

export interface DeadNotificationsOptions {
  readonly shelf: NotifyShelf;
  readonly clock: Clock;
  readonly registry: Registry;
  /** 1,000 by default: 28 MiB at most. */
  readonly limit?: number;
}

const PREFIX = 'notify/dead/';

/** What was given up, on disk until somebody sends it again; the oldest go where there are too many. */
export class DeadNotifications {
  readonly #options: DeadNotificationsOptions;
  /** By key, oldest first. */
  readonly #kept = new Map<string, DeadNotification>();
  readonly #dropped: Counter;
  #next = 1;

  private constructor(options: DeadNotificationsOptions) {
    this.#options = options;
    const kept = this.#kept;
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_notifications_dead_dropped_total',
      help: 'Notifications that were given up and left the list because it was full.',
    });
    gauge(options.registry, {
      name: 'gpufleet_notifications_dead',
      help: 'Notifications that were given up and wait for somebody to send them again.',
      collect() {
        this.set(kept.size);
      },
    });
  }

  static async open(options: DeadNotificationsOptions): Promise<DeadNotifications> {
    const dead = new DeadNotifications(options);
    for await (const [key, value] of options.shelf.entries(PREFIX)) {
      const { packed, ...rest } = value as Kept;
      const notification = unpackNotification(packed);
      if (notification !== undefined) dead.#kept.set(key, { ...rest, notification });
      dead.#next = Math.max(dead.#next, Number(key.slice(PREFIX.length)) + 1);
    }
    return dead;
  }

  /** Resolves when it is on disk; rejects where it cannot be, and is then kept in memory. */
  async add(letter: Omit<DeadNotification, 'atMs'>): Promise<void> {
    const { shelf, clock, limit = 1_000 } = this.#options;
    const key = `${PREFIX}${String(this.#next++).padStart(16, '0')}`;
    const dead: DeadNotification = { ...letter, atMs: clock.now() };
    const { notification, ...rest } = dead;
    this.#kept.set(key, dead);
    const gone = [...this.#kept.keys()].slice(0, Math.max(0, this.#kept.size - limit));
    for (const old of gone) this.#kept.delete(old);
    this.#dropped.inc(gone.length);
    const kept: Kept = { ...rest, packed: packNotification(notification) };
    await shelf.write([{ key, value: kept }, ...gone.map((old) => ({ key: old }))], true);
  }

  /** Newest first. */
  list(): DeadNotification[] {
    return [...this.#kept.values()].reverse();
  }

  get(id: string): DeadNotification | undefined {
    for (const dead of this.#kept.values()) if (dead.notification.id === id) return dead;
    return undefined;
  }

  async remove(id: string): Promise<void> {
    const keys = [...this.#kept].filter(([, dead]) => dead.notification.id === id).map(([key]) => key);
    for (const key of keys) this.#kept.delete(key);
    if (keys.length > 0)
      await this.#options.shelf.write(
        keys.map((key) => ({ key })),
        true,
      );
  }
}
