import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AuditFact } from '../audit/audit-entry.ts';
import type { ControlState, ControlStore } from '../control/control-store.ts';
import { type InhibitRule, shippedInhibitRules } from '../mute/inhibit-rules.ts';
import { Inhibitions } from '../mute/inhibitions.ts';
import type { AlertFeed } from './alert-feed.ts';
import { AwayBooks } from './away-books.ts';
import { ControlDocs } from './control-docs.ts';
import { DeadNotifications } from './dead-notifications.ts';
import { LeaderLease } from './leader-lease.ts';
import type { Notification, Receiver } from './notification.ts';
import { NotificationLog } from './notification-log.ts';
import type { NotificationRecord } from './notification-record.ts';
import { MAX_NOTIFY_BYTES, parseNotifyFile } from './notify-file.ts';
import { NotifyMetrics } from './notify-metrics.ts';
import { type Muting, NotifySession } from './notify-session.ts';
import type { EndpointSettings, NotifySettings } from './notify-settings.ts';
import type { ReceiverKind } from './receivers/receiver-kind.ts';
import { RECEIVER_KINDS } from './receivers/registry.ts';
import type { NotifyShelf } from './shelf-docs.ts';

export interface NotifierOptions {
  /** Undefined for none: nobody is notified. */
  readonly file: string | undefined;
  readonly control: ControlStore;
  readonly audit: { write(fact: AuditFact): Promise<unknown> };
  readonly silences: Muting;
  /** The alerts of this aggregator. */
  readonly feed: AlertFeed;
  /** Those of the cluster; undefined where there is no NATS. Not disposed by the notifier. */
  readonly clusterFeed: AlertFeed | undefined;
  /** Keys begin with `notify/`. */
  readonly shelf: NotifyShelf;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Names this aggregator. */
  readonly shard: string;
  /** The shipped ones by default. */
  readonly kinds?: Readonly<Record<string, ReceiverKind>>;
  /** A notification was given up: for an alert about it. Must not throw. */
  readonly onDead?: (endpoint: EndpointSettings, notification: Notification, why: string) => void;
}

type Reloaded = { readonly ok: true } | { readonly ok: false; readonly why: string };

type Mode = 'off' | 'local' | 'cluster' | 'away';

/** Where NATS is away for less, whoever leads goes on after it, and nobody is told twice. */
const AWAY_AFTER_MS = 15_000;
/** The others say first what they told while NATS was away. */
const SETTLE_MS = 2_000;
const TICK_MS = 250;

/** A file and what it opened. */
interface Opened {
  readonly settings: NotifySettings;
  readonly receivers: ReadonlyMap<EndpointSettings, Receiver>;
  readonly inhibitRules: readonly InhibitRule[];
}

/**
 * Tells people of alerts, each piece of news once. With NATS one aggregator does it for all; without, or while it is
 * away, each for its own alerts, as told twice is better than not at all.
 */
export class Notifier implements AsyncDisposable {
  readonly #options: NotifierOptions;
  readonly #lease: LeaderLease;
  readonly #away: AwayBooks;
  readonly #log: NotificationLog;
  #opened: Opened | undefined;
  #session: NotifySession | undefined;
  #mode: Mode = 'off';
  #switching: Promise<void> | undefined;
  #state: { is: ControlState; sinceMs: number };
  #reload = false;
  /** The last reload: one after the other, as each closes what the one before it opened. */
  #reloading: Promise<unknown> = Promise.resolve();

  private constructor(options: NotifierOptions, dead: DeadNotifications) {
    this.#options = options;
    const { control, clock, logger, registry, shard, shelf } = options;
    this.#lease = new LeaderLease({ control, owner: `${shard} ${randomUUID()}`, clock, logger });
    this.#away = new AwayBooks({ control, shelf, shard, logger });
    this.#state = { is: control.state, sinceMs: clock.monotonic() };
    const metrics = new NotifyMetrics({
      registry,
      waiting: () => this.#session?.waitingCount ?? 0,
      leading: () => this.#session !== undefined,
    });
    this.#log = new NotificationLog({ ...options, dead, metrics, onDead: options.onDead });
  }

  /** Throws `invalid_config` with every fault of the file, or `unavailable` where it cannot be read. */
  static async open(options: NotifierOptions): Promise<Notifier> {
    const dead = await DeadNotifications.open(options);
    const notifier = new Notifier(options, dead);
    if (options.file !== undefined) notifier.#opened = await notifier.#read(options.file);
    return notifier;
  }

  /** The inhibition rules in force; those that are shipped where there is no file. */
  async inhibitRules(): Promise<readonly InhibitRule[]> {
    return this.#opened?.inhibitRules ?? shippedInhibitRules();
  }

  /** Notifies until the signal aborts; then what is being sent may end, and another takes over at once. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#options.file === undefined || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setInterval(() => this.tick(), TICK_MS);
      signal.addEventListener('abort', () => {
        clearInterval(timer);
        resolve();
      });
    });
    await this.#switching;
    await this.#leave(true);
    await this.#lease.release();
  }

  /** One step; `run` does it four times a second. */
  tick(): void {
    if (this.#opened === undefined) return;
    if (this.#switching !== undefined) {
      // What is sent or written meanwhile may take longer than the lease.
      if (this.#lease.held) this.#lease.tick();
      return;
    }
    const wanted = this.#wanted();
    if (wanted !== this.#mode || this.#reload) {
      this.#switching = this.#switch(wanted)
        .catch((thrown: unknown) =>
          this.#options.logger.error({ why: describeError(thrown) }, 'cannot begin to notify'),
        )
        .finally(() => {
          this.#switching = undefined;
        });
      return;
    }
    if (this.#mode === 'cluster' && this.#session !== undefined) {
      const session = this.#session;
      this.#away.take((endpoint, record) => session.absorb(endpoint, record));
    }
    this.#session?.tick();
  }

  /** What waits, what was sent of late and what was given up, newest first. */
  list(): NotificationRecord[] {
    return this.#log.list(this.#session?.jobs ?? []);
  }

  /**
   * Sends dead letters of this aggregator again, all where none is named, and returns how many were taken. Throws
   * `not_found` before anything is sent where one is not there.
   */
  resend(ids: readonly string[], by: string): Promise<number> {
    return this.#log.resend(ids, by, this.#opened?.receivers ?? new Map());
  }

  /** Reads the file again. A bad one changes nothing and says why. */
  reload(): Promise<Reloaded> {
    const reloaded = this.#reloading.then(() => this.#readAgain());
    this.#reloading = reloaded;
    return reloaded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reloading;
    await this.#switching;
    await this.#leave(false);
    this.#away[Symbol.dispose]();
    await closeAll(this.#opened);
  }

  async #readAgain(): Promise<Reloaded> {
    const { file } = this.#options;
    if (file === undefined) return { ok: false, why: 'there is no notify file' };
    try {
      const opened = await this.#read(file);
      const before = this.#opened;
      await this.#switching;
      this.#opened = opened;
      this.#reload = true;
      this.tick();
      await this.#switching;
      await closeAll(before);
      return { ok: true };
    } catch (thrown) {
      return { ok: false, why: describeError(thrown) };
    }
  }

  #wanted(): Mode {
    const { control, clock, clusterFeed } = this.#options;
    const nowMs = clock.monotonic();
    if (control.state !== this.#state.is) this.#state = { is: control.state, sinceMs: nowMs };
    const forMs = nowMs - this.#state.sinceMs;
    if (control.state === 'local') return 'local';
    if (control.state === 'away')
      return forMs >= AWAY_AFTER_MS ? 'away' : this.#mode === 'away' ? 'away' : 'off';
    // Who does not hear of alerts must not be the one to tell of them.
    if (clusterFeed?.loaded !== true || forMs < SETTLE_MS) {
      if (this.#lease.held && clusterFeed?.loaded !== true) void this.#lease.release();
      return 'off';
    }
    this.#lease.tick();
    return this.#lease.held ? 'cluster' : 'off';
  }

  async #switch(wanted: Mode): Promise<void> {
    const before = this.#mode;
    // Only a reload may let a try end: whoever has lost its place must not send any more.
    await this.#leave(this.#reload && wanted === before);
    this.#reload = false;
    const { control } = this.#options;
    if (control.state === 'shared') await this.#away.publish();
    if (wanted === 'off') return;
    const docs = wanted === 'away' ? await this.#away.open() : new ControlDocs(control);
    if (wanted === 'cluster' && !this.#lease.held) return;
    this.#begin(wanted, docs);
  }

  #begin(mode: Mode, docs: ControlDocs | Awaited<ReturnType<AwayBooks['open']>>): void {
    const { clusterFeed, clock, random, logger, silences } = this.#options;
    const feed = mode === 'cluster' ? clusterFeed! : this.#options.feed;
    const { settings, receivers, inhibitRules } = this.#opened!;
    this.#session = new NotifySession({
      ...{ settings, receivers, docs, feed, silences, clock, random, logger },
      partial: mode === 'away',
      inhibitions: new Inhibitions({ rules: inhibitRules, alerts: [] }),
      tried: (job, delivery, tookMs) => this.#log.tried(job, delivery, tookMs),
      buried: (job, why) => this.#log.bury(job, why),
      refreshed: (endpoint, delivery) => this.#log.refreshed(endpoint, delivery),
      broken: (thrown) => {
        // Another has written the books: who is in charge has to be found out, and the books read anew.
        if (thrown instanceof FleetError && thrown.code === 'permission_denied') {
          this.#lease.drop();
          this.#reload = true;
        }
      },
    });
    this.#mode = mode;
    logger.info({ mode }, 'notifying');
  }

  async #leave(drain: boolean): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#mode = 'off';
    await session?.stop(drain);
  }

  async #read(file: string): Promise<Opened> {
    const { kinds = RECEIVER_KINDS, clock, logger } = this.#options;
    const text = await readText(file);
    const settings = parseNotifyFile(text, file, kinds);
    const shipped = settings.inhibitDefaults ? await shippedInhibitRules() : [];
    const receivers = new Map<EndpointSettings, Receiver>();
    await using opened = new AsyncDisposableStack();
    for (const endpoint of [...settings.receivers.values()].flat()) {
      const deps = { name: endpoint.receiver, clock, logger };
      receivers.set(endpoint, opened.use(await kinds[endpoint.kind]!.open(endpoint.settings, deps)));
    }
    opened.move();
    return { settings, receivers, inhibitRules: [...shipped, ...settings.inhibitRules] };
  }
}

async function readText(file: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new FleetError('unavailable', `Cannot read notifications ${file}`, { cause });
  }
  if (Buffer.byteLength(text) > MAX_NOTIFY_BYTES)
    throw new FleetError(
      'invalid_config',
      `Cannot read notifications ${file}: it is larger than ${MAX_NOTIFY_BYTES} bytes`,
    );
  return text;
}

async function closeAll(opened: Opened | undefined): Promise<void> {
  await Promise.allSettled(
    [...(opened?.receivers.values() ?? [])].map((receiver) => receiver[Symbol.asyncDispose]()),
  );
}
