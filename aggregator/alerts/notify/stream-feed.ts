import { type ConsumerMessages, DeliverPolicy } from '@nats-io/jetstream';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import { ALERT_SUBJECTS, alertSubject, decodeAlert } from '../bus/alert-message.ts';
import {
  ensureStream,
  NatsLink,
  type NatsLinkOptions,
  type NatsSession,
  type StreamSettings,
} from '../bus/nats-link.ts';
import type { AlertFeed } from './alert-feed.ts';

export interface StreamFeedOptions {
  readonly nats: NatsLinkOptions;
  /** The stream of alerts, made where it is missing. */
  readonly stream: StreamSettings;
  readonly registry: Registry;
  /** Most alerts kept; 250,000 by default. Resolved ones go first. */
  readonly maxAlerts?: number;
}

/** The stream's sequence up to which messages were taken, of the stream made then. */
interface Position {
  readonly created: string;
  seq: number;
}

/**
 * The alerts of the whole cluster, from the stream: the last message of each subject, and then what comes. After a
 * lost connection it goes on where it was; it begins anew where the stream is another one or has lost its end. An
 * ordered consumer: nothing of it is kept at the server, and a gap is noticed and read again.
 */
export class StreamFeed implements AlertFeed, AsyncDisposable {
  readonly #options: StreamFeedOptions;
  readonly #alerts = new Map<string, Alert>();
  /** Ids in the order in which they resolved: the first to go. */
  readonly #resolved = new Set<string>();
  readonly #listeners = new Set<(alert: Alert) => void>();
  readonly #refused: Counter;
  readonly #stop = new AbortController();
  readonly #run: Promise<void>;
  #position: Position | undefined;
  #loaded = false;
  #messages: ConsumerMessages | undefined;

  constructor(options: StreamFeedOptions) {
    this.#options = options;
    this.#refused = counter(options.registry, {
      name: 'gpufleet_notifier_alerts_refused_total',
      help: 'Alerts of the stream that were not taken, as too many fire; nobody is notified of them.',
    });
    this.#run = new NatsLink(options.nats).run(
      this.#stop.signal,
      (session) => this.#begin(session),
      () => this.#end(),
    );
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  alerts(): Iterable<Alert> {
    return this.#alerts.values();
  }

  subscribe(listener: (alert: Alert) => void): Disposable {
    const own = (alert: Alert): void => listener(alert);
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#run;
  }

  async #begin(session: NatsSession): Promise<void> {
    const { stream } = this.#options;
    const { created, lastSeq } = await ensureStream(session.jsm, stream, ALERT_SUBJECTS);
    const goesOn = this.#position?.created === created && lastSeq >= this.#position.seq;
    if (!goesOn) this.#position = { created, seq: 0 };
    const consumer = await session.js.consumers.get(
      stream.name,
      goesOn && this.#position!.seq > 0
        ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: this.#position!.seq + 1 }
        : { deliver_policy: DeliverPolicy.LastPerSubject },
    );
    const { num_pending: pending } = await consumer.info();
    const messages = await consumer.consume({ max_messages: 500 });
    this.#messages = messages;
    if (pending === 0) this.#loaded = true;
    void this.#follow(messages);
  }

  #end(): void {
    this.#loaded = false;
    this.#messages?.stop();
    this.#messages = undefined;
  }

  async #follow(messages: ConsumerMessages): Promise<void> {
    try {
      for await (const message of messages) {
        if (messages !== this.#messages) return;
        const alert = decodeAlert(message.string());
        if (alert !== undefined && alertSubject(alert) === message.subject) this.#take(alert);
        this.#position!.seq = Math.max(this.#position!.seq, message.seq);
        if (message.info.pending === 0) this.#loaded = true;
      }
    } catch (thrown) {
      this.#options.nats.logger.warn({ why: describeError(thrown) }, 'lost the stream of alerts');
    }
    // The connection may be well and the consumer not: whoever waits for us must not take silence for peace.
    if (messages === this.#messages) this.#loaded = false;
  }

  #take(alert: Alert): void {
    const resolved = alert.state === AlertState.RESOLVED;
    if (!this.#alerts.has(alert.id) && this.#alerts.size >= (this.#options.maxAlerts ?? 250_000)) {
      const oldest = this.#resolved.values().next().value;
      if (oldest === undefined) {
        this.#refused.inc();
        return;
      }
      this.#resolved.delete(oldest);
      this.#alerts.delete(oldest);
    }
    this.#alerts.set(alert.id, alert);
    this.#resolved.delete(alert.id);
    if (resolved) this.#resolved.add(alert.id);
    for (const listener of this.#listeners) listener(alert);
  }
}
