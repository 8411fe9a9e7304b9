import { setTimeout as sleep } from 'node:timers/promises';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { ALERT_SUBJECTS } from './alert-message.ts';
import { AlertPublisher } from './alert-publisher.ts';
import type { AlertSpool } from './alert-spool.ts';
import { EVENT_SUBJECTS, type EventContext, EventPublisher } from './event-publisher.ts';
import type { EventSpool } from './event-spool.ts';
import {
  ensureStream,
  NatsLink,
  type NatsLinkOptions,
  type NatsSession,
  type StreamSettings,
} from './nats-link.ts';

export interface AlertBusOptions {
  /** Undefined for none: the spool then keeps the last states alone. */
  readonly nats: Omit<NatsLinkOptions, 'logger' | 'random'> | undefined;
  /** Not closed by the bus. */
  readonly spool: AlertSpool;
  /** Not closed by the bus. */
  readonly events: EventSpool;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly random?: () => number;
  readonly alertsStream?: Partial<StreamSettings>;
  readonly eventsStream?: Partial<StreamSettings>;
  /** Most transitions in memory that are not yet on disk; 250,000 by default. What is beyond is counted and lost. */
  readonly maxUnwritten?: number;
}

export interface AlertBusStatus {
  readonly nats: 'off' | 'connected' | 'disconnected';
  /** Why there is no connection; empty where there is one, or none is wanted. */
  readonly reason: string;
  /** Transitions that are not yet in the stream. */
  readonly waiting: number;
}

/**
 * Where transitions go. Dispose drains: what was given is written to the spool, and what can be published within
 * two seconds is; the rest is published by the next start.
 */
export interface AlertBus extends AsyncDisposable {
  /** Takes a transition (see isTransition), in order. Returns at once. */
  publish(alert: Alert): void;
  /** Resolves when the event is on disk; rejects where it cannot be. */
  publishEvent(source: Source, event: FleetEvent, late: boolean, context?: EventContext): Promise<void>;
  /** Resolves when every transition given so far is on disk: what caused it may then be acknowledged. */
  written(): Promise<void>;
  /**
   * The last state of each alert, for the engine to restore. Waits at most `timeoutMs` for NATS and then takes what
   * the spool holds; of two states of an alert the later transition counts.
   */
  lastStates(timeoutMs?: number): Promise<Alert[]>;
  status(): AlertBusStatus;
  /** Says something to whoever listens now, and keeps it nowhere; nothing happens without a connection. */
  tell(subject: string, body: string): void;
}

/**
 * No age limit: the last message of a subject is the alert's state, however long the alert fires. 64 transitions of
 * an alert are kept for a durable subscriber that is away; 1 GiB holds about a million messages.
 */
export const ALERTS_STREAM: StreamSettings = {
  name: 'GPUFLEET_ALERTS',
  replicas: 1,
  maxBytes: 1024 ** 3,
  maxAgeMs: 0,
  maxPerSubject: 64,
};
const EVENTS_STREAM: StreamSettings = {
  name: 'GPUFLEET_EVENTS',
  replicas: 1,
  maxBytes: 1024 ** 3,
  maxAgeMs: 30 * 86_400_000,
  maxPerSubject: -1,
};

/**
 * Transitions in memory that are not yet on disk: all 100,000 GPUs of a large fleet crossing a threshold and back within
 * what the disk is behind. The last message of each alert is the engine's own object, so that a storm costs 8 B an
 * alert here; only where every one of them has been replaced since are these about 250 MB.
 */
const MAX_UNWRITTEN = 250_000;
/**
 * Transitions in one write. They are encoded in one go, about 10 µs each, and no tick is looked at meanwhile. Measured:
 * all of a storm in one write hold the process up for seconds, 500 for 10 ms, and smaller ones only cost more syncs.
 */
const WRITE_BATCH = 500;
const TRIM_INTERVAL_MS = 60_000;
const DRAIN_MS = 2_000;

/** Never waits for NATS: without it transitions gather in the spool. */
export async function createAlertBus(options: AlertBusOptions): Promise<AlertBus> {
  return new SpooledAlertBus(options);
}

class SpooledAlertBus implements AlertBus {
  readonly #options: AlertBusOptions;
  readonly #publisher: AlertPublisher;
  readonly #events: EventPublisher;
  readonly #link: NatsLink | undefined;
  readonly #linkRun: Promise<void>;
  readonly #stop = new AbortController();
  readonly #trimTimer: NodeJS.Timeout;
  readonly #dropped: Counter<'reason'>;
  readonly #maxUnwritten: number;
  #session: NatsSession | undefined;
  #unwritten: Alert[] = [];
  /** How many of them, from the first, have been taken into a write. */
  #taken = 0;
  /** Transitions in the write that is under way. */
  #inWrite = 0;
  #writing: Promise<void> | undefined;
  #disposed: Promise<void> | undefined;

  constructor(options: AlertBusOptions) {
    const { logger, registry, spool } = options;
    this.#options = options;
    this.#maxUnwritten = options.maxUnwritten ?? MAX_UNWRITTEN;
    const stream = { ...ALERTS_STREAM, ...options.alertsStream };
    this.#publisher = new AlertPublisher({ stream: stream.name, spool, logger, registry });
    this.#events = new EventPublisher(options.events, logger);
    this.#dropped = counter(registry, {
      name: 'gpufleet_alert_bus_dropped_total',
      help: 'Transitions that were not written to the spool.',
      labelNames: ['reason'],
    });
    this.#link =
      options.nats && new NatsLink({ ...options.nats, logger, random: options.random ?? Math.random });
    const status = () => this.status();
    gauge(registry, {
      name: 'gpufleet_nats_connected',
      help: '1 while there is a connection to NATS, 0 while there is none or none is configured.',
      collect() {
        this.set(status().nats === 'connected' ? 1 : 0);
      },
    });
    gauge(registry, {
      name: 'gpufleet_alert_spool_waiting',
      help: 'Transitions that are not yet in the NATS stream.',
      collect() {
        this.set(status().waiting);
      },
    });
    this.#trimTimer = setInterval(() => this.#trim(), TRIM_INTERVAL_MS);
    this.#linkRun =
      this.#link?.run(
        this.#stop.signal,
        (session) => this.#begin(session, stream),
        () => this.#end(),
      ) ?? Promise.resolve();
  }

  publish(alert: Alert): void {
    if (this.#disposed !== undefined || this.#queued >= this.#maxUnwritten) {
      this.#dropped.inc({ reason: this.#disposed === undefined ? 'queue_full' : 'closed' });
      return;
    }
    this.#unwritten.push(alert);
    this.#writing ??= this.#write();
  }

  async publishEvent(
    source: Source,
    event: FleetEvent,
    late: boolean,
    context?: EventContext,
  ): Promise<void> {
    if (this.#disposed !== undefined)
      throw new FleetError('unavailable', 'Cannot take event: the aggregator is stopping');
    await this.#events.publish(source, event, late, context);
  }

  async written(): Promise<void> {
    await this.#writing;
  }

  async lastStates(timeoutMs = 2_000): Promise<Alert[]> {
    const states = new Map<string, Alert>();
    for await (const alert of this.#options.spool.states()) states.set(alert.id, alert);
    const session = await this.#sessionWithin(timeoutMs);
    if (session === undefined) return [...states.values()];
    try {
      for (const alert of await this.#publisher.lastMessages(session)) {
        const kept = states.get(alert.id);
        if (kept === undefined || kept.transition < alert.transition) states.set(alert.id, alert);
      }
    } catch (thrown) {
      this.#options.logger.warn(
        { why: describeError(thrown) },
        'cannot read alert states from NATS, using the spool',
      );
    }
    return [...states.values()];
  }

  status(): AlertBusStatus {
    const link = this.#link?.status();
    const waiting = this.#queued + this.#inWrite + this.#options.spool.waitingCount;
    if (link === undefined) return { nats: 'off', reason: '', waiting };
    return { nats: link.connected ? 'connected' : 'disconnected', reason: link.reason, waiting };
  }

  tell(subject: string, body: string): void {
    this.#session?.connection.publish(subject, body);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#drain();
    return this.#disposed;
  }

  async #drain(): Promise<void> {
    clearInterval(this.#trimTimer);
    await this.#writing;
    const deadline = this.#options.clock.monotonic() + DRAIN_MS;
    while (this.#session !== undefined && !this.#drained() && this.#options.clock.monotonic() < deadline) {
      await sleep(5);
    }
    this.#publisher.dispose();
    this.#stop.abort();
    await this.#linkRun;
    await this.#events.settled();
    // The connection is closed, so what was under way has failed by now; its marks may still be written.
    while (!this.#publisher.settled) await sleep(5);
  }

  #drained(): boolean {
    return this.#options.spool.waitingCount === 0 && this.#publisher.idle && this.#events.idle;
  }

  get #queued(): number {
    return this.#unwritten.length - this.#taken;
  }

  /** Writes what has come, a batch in one synced write, and goes on while there is more. */
  async #write(): Promise<void> {
    while (this.#queued > 0) {
      const alerts = this.#takeBatch();
      this.#inWrite = alerts.length;
      const nowMs = this.#options.clock.now();
      try {
        const entries = await this.#options.spool.append(alerts, nowMs, this.#link !== undefined);
        if (this.#link !== undefined) this.#publisher.submit(entries);
      } catch (thrown) {
        // An alert that nobody hears is worse than one that a crash would lose: it goes out from memory.
        this.#options.logger.error({ why: describeError(thrown) }, 'cannot write to the alert spool');
        this.#dropped.inc({ reason: 'disk' }, alerts.length);
        if (this.#link !== undefined)
          this.#publisher.submit(alerts.map((alert) => ({ seq: 0, atMs: nowMs, alert })));
      }
    }
    this.#inWrite = 0;
    this.#writing = undefined;
  }

  #takeBatch(): Alert[] {
    const alerts = this.#unwritten.slice(this.#taken, this.#taken + WRITE_BATCH);
    this.#taken += alerts.length;
    if (this.#queued === 0) {
      this.#unwritten = [];
      this.#taken = 0;
    } else if (this.#taken >= this.#unwritten.length / 2) {
      // Moves each transition once on average, and lets go of those that are written.
      this.#unwritten = this.#unwritten.slice(this.#taken);
      this.#taken = 0;
    }
    return alerts;
  }

  async #begin(session: NatsSession, stream: StreamSettings): Promise<void> {
    const events = { ...EVENTS_STREAM, ...this.#options.eventsStream };
    const found = await ensureStream(session.jsm, stream, ALERT_SUBJECTS);
    await ensureStream(session.jsm, events, EVENT_SUBJECTS);
    await this.#publisher.begin(session, found);
    this.#events.begin(session);
    this.#session = session;
  }

  #end(): void {
    this.#session = undefined;
    this.#publisher.end();
    this.#events.end();
  }

  async #sessionWithin(timeoutMs: number): Promise<NatsSession | undefined> {
    if (this.#link === undefined) return undefined;
    const deadline = this.#options.clock.monotonic() + timeoutMs;
    while (this.#session === undefined && this.#options.clock.monotonic() < deadline) await sleep(10);
    return this.#session;
  }

  #trim(): void {
    this.#options.spool.trim(this.#options.clock.now()).catch((thrown: unknown) => {
      this.#options.logger.error({ why: describeError(thrown) }, 'cannot trim the alert spool');
    });
  }
}
