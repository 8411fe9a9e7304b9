import { setTimeout as sleep } from 'node:timers/promises';
import { DeliverPolicy, JetStreamApiCodes } from '@nats-io/jetstream';
import { headers } from '@nats-io/transport-node';
import { type Alert, AlertSchema } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { severityName } from '../summary.ts';
import {
  alertSubject,
  decodeAlert,
  encodeAlert,
  judge,
  messageId,
  type Standing,
  standingOf,
  stateName,
  type Verdict,
} from './alert-message.ts';
import type { AlertSpool, SpoolEntry, StreamTail } from './alert-spool.ts';
import { hasCode, type NatsSession } from './nats-link.ts';

export interface AlertPublisherOptions {
  readonly stream: string;
  readonly spool: AlertSpool;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** Publishes under way at once. Measured on nats-server 2.9: 16 give 18,500 a second, 128 only 23,000, later. */
const MAX_IN_FLIGHT = 32;
/** Transitions in memory; the rest waits on disk. */
const WINDOW = 4096;
/** Most transitions read from disk in one go: decoding these holds the process up for about 5 ms. */
const LOAD_BATCH = 512;
/**
 * Subjects whose last sequence is remembered; of others it is read again, which takes a round trip more. As many as the
 * spool keeps states: about 100 MB where it is full.
 */
const MAX_KNOWN = 250_000;
/** Refusals of one transition in a row before it waits: another owner is writing to the same subject. */
const MAX_ATTEMPTS = 5;
/** Wait before a failed publish is tried again on the same connection. */
const RETRY_MS = 500;

/** The last message of a subject. */
interface Last {
  readonly seq: number;
  /** Undefined where there is none, or none of ours. */
  readonly standing: Standing | undefined;
}

const EMPTY: Last = { seq: 0, standing: undefined };

/** Transitions of one subject, in order; only the first is ever under way. */
interface Lane {
  readonly subject: string;
  readonly entries: SpoolEntry[];
  busy: boolean;
  /** An earlier try may have come through: the subject is read before the next. */
  uncertain: boolean;
}

/**
 * Brings transitions from the spool into the stream: in order for each subject, several subjects at once, each with
 * the last sequence that we expect of its subject, so that a second owner is refused. What comes while there is no
 * room or no session waits on disk and is read from there.
 */
export class AlertPublisher {
  readonly #options: AlertPublisherOptions;
  readonly #spool: AlertSpool;
  readonly #lanes = new Map<string, Lane>();
  readonly #ready = new Set<Lane>();
  readonly #known = new Map<string, Last>();
  /** How far the stream's count of a subject is ahead of ours, where another owner has counted too. */
  readonly #offsets = new Map<string, bigint>();
  readonly #published: Counter<'outcome'>;
  readonly #timers = new Set<NodeJS.Timeout>();
  #session: NatsSession | undefined;
  #created = '';
  #inMemory = 0;
  #inFlight = 0;
  /** Highest sequence that was ever put into a lane since the last rewind. */
  #cursor = 0;
  /** There is more on disk than in the lanes. */
  #behind = true;
  #loading = false;
  #missed = false;
  /** The last try failed on a connection that is there. */
  #refused = false;
  #acked: number[] = [];
  #tail: StreamTail | undefined;
  #marking: Promise<void> | undefined;

  constructor(options: AlertPublisherOptions) {
    this.#options = options;
    this.#spool = options.spool;
    this.#published = counter(options.registry, {
      name: 'gpufleet_alert_published_total',
      help: 'Transitions brought to the stream, by outcome; superseded and repeat are refused ones of a second owner.',
      labelNames: ['outcome'],
    });
  }

  /** Nothing in memory and nothing under way: what the spool counts as waiting is all there is. */
  get idle(): boolean {
    return this.#inMemory === 0 && this.settled;
  }

  /** Nothing under way. */
  get settled(): boolean {
    return this.#inFlight === 0 && !this.#loading && this.#marking === undefined;
  }

  /** Transitions that were written to the spool, or could not be (seq 0). Called in order. */
  submit(entries: readonly SpoolEntry[]): void {
    for (const entry of entries) {
      if (entry.seq > 0 && (this.#behind || this.#loading || this.#inMemory >= WINDOW)) {
        this.#behind = true;
        this.#missed = true;
      } else if (this.#inMemory >= 2 * WINDOW) {
        this.#published.inc({ outcome: 'dropped' });
      } else {
        this.#enqueue(entry);
      }
    }
    this.#pump();
  }

  /** Begins to publish. Finds out whether the stream has lost its end, and if so sends it again. */
  async begin(session: NatsSession, stream: { created: string; lastSeq: number }): Promise<void> {
    // What the last session left under way has failed with its connection, or is about to.
    while (!this.settled) await sleep(5);
    this.#created = stream.created;
    const tail = await this.#spool.tail();
    if (tail !== undefined && (await this.#wentBack(session, tail, stream))) await this.#rewind(session);
    this.#session = session;
    this.#pump();
  }

  /** The session is over. What was under way may or may not have arrived. */
  end(): void {
    this.#session = undefined;
  }

  /** The last message of each subject: the state of each alert. */
  async lastMessages(session: NatsSession): Promise<Alert[]> {
    const consumer = await session.js.consumers.get(this.#options.stream, {
      deliver_policy: DeliverPolicy.LastPerSubject,
    });
    const info = await consumer.info();
    const alerts: Alert[] = [];
    if (info.num_pending === 0) return alerts;
    const messages = await consumer.consume({ max_messages: 500 });
    let complete = false;
    for await (const message of messages) {
      const alert = decodeAlert(message.string());
      if (alert !== undefined && alertSubject(alert) === message.subject) {
        alerts.push(alert);
        this.#remember(message.subject, { seq: message.seq, standing: standingOf(alert) });
      }
      complete = message.info.pending === 0;
      if (complete) break;
    }
    await messages.close();
    // A connection that ends, ends the messages too.
    if (!complete) throw new FleetError('unavailable', 'Cannot read all alert states: the connection ended');
    return alerts;
  }

  dispose(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#session = undefined;
  }

  async #wentBack(
    session: NatsSession,
    tail: StreamTail,
    stream: { created: string; lastSeq: number },
  ): Promise<boolean> {
    if (stream.created !== tail.created || stream.lastSeq < tail.seq) return true;
    // Nothing was acknowledged since the last rewind, and the server knows no message 0.
    if (tail.seq === 0) return false;
    const message = await session.jsm.streams.getMessage(this.#options.stream, { seq: tail.seq });
    // A message that is no longer there was aged out: the stream's end is further on.
    return message !== null && message.header.get('Nats-Msg-Id') !== tail.messageId;
  }

  /** Puts back in line what the stream no longer holds: each transition after the last one of its subject. */
  async #rewind(session: NatsSession): Promise<void> {
    this.#known.clear();
    this.#offsets.clear();
    // Of what is gone: it must not be taken for newer than what is published from now on.
    this.#tail = undefined;
    const held = new Map<string, bigint>();
    for (const alert of await this.lastMessages(session)) held.set(alertSubject(alert), alert.transition);
    const missing: number[] = [];
    for await (const { seq, alert } of this.#spool.entries()) {
      if (alert.transition > (held.get(alertSubject(alert)) ?? 0n)) missing.push(seq);
    }
    this.#lanes.clear();
    this.#ready.clear();
    this.#inMemory = 0;
    this.#cursor = 0;
    this.#behind = true;
    await this.#spool.requeue(missing);
    await this.#spool.sent([], { created: this.#created, seq: 0, messageId: '' });
    this.#options.logger.warn(
      { stream: this.#options.stream, transitions: missing.length },
      'the NATS stream has lost its end: publishing again from the spool',
    );
  }

  #enqueue(entry: SpoolEntry): void {
    const subject = alertSubject(entry.alert);
    let lane = this.#lanes.get(subject);
    if (lane === undefined) {
      lane = { subject, entries: [], busy: false, uncertain: false };
      this.#lanes.set(subject, lane);
    }
    lane.entries.push(entry);
    this.#inMemory++;
    this.#cursor = Math.max(this.#cursor, entry.seq);
    if (!lane.busy) this.#ready.add(lane);
  }

  #pump(): void {
    if (this.#session === undefined) return;
    if (this.#behind && !this.#loading && this.#inMemory < WINDOW / 2) void this.#load();
    for (const lane of this.#ready) {
      if (this.#inFlight >= MAX_IN_FLIGHT) return;
      this.#ready.delete(lane);
      void this.#advance(lane, this.#session);
    }
  }

  async #load(): Promise<void> {
    this.#loading = true;
    this.#missed = false;
    try {
      const room = Math.min(LOAD_BATCH, WINDOW - this.#inMemory);
      const entries = await this.#spool.waiting(this.#cursor, room);
      for (const entry of entries) this.#enqueue(entry);
      if (entries.length < room && !this.#missed) this.#behind = false;
    } catch (thrown) {
      this.#options.logger.error({ why: describeError(thrown) }, 'cannot read the alert spool');
      this.#later(() => this.#pump());
      return;
    } finally {
      this.#loading = false;
    }
    this.#pump();
  }

  async #advance(lane: Lane, session: NatsSession): Promise<void> {
    const entry = lane.entries[0]!;
    lane.busy = true;
    this.#inFlight++;
    try {
      const outcome = await this.#publish(lane, entry.alert, session);
      this.#published.inc({ outcome });
      this.#refused = false;
      lane.uncertain = false;
      lane.entries.shift();
      this.#inMemory--;
      if (entry.seq > 0) this.#acked.push(entry.seq);
      this.#mark();
      this.#release(lane);
    } catch (thrown) {
      this.#published.inc({ outcome: 'failed' });
      lane.uncertain = true;
      this.#known.delete(lane.subject);
      if (this.#session === session) {
        this.#warn(lane.subject, describeError(thrown));
        this.#later(() => this.#release(lane));
      } else {
        this.#release(lane);
      }
    } finally {
      this.#inFlight--;
      this.#pump();
    }
  }

  /** Once until one is published again: a JetStream without a leader refuses thousands a second. */
  #warn(subject: string, why: string): void {
    if (!this.#refused) this.#options.logger.warn({ subject, why }, 'cannot publish alerts yet');
    this.#refused = true;
  }

  #release(lane: Lane): void {
    lane.busy = false;
    if (this.#lanes.get(lane.subject) !== lane) return;
    if (lane.entries.length === 0) this.#lanes.delete(lane.subject);
    else this.#ready.add(lane);
    this.#pump();
  }

  async #publish(lane: Lane, alert: Alert, session: NatsSession): Promise<Verdict> {
    const { subject } = lane;
    const ours = standingOf(alert);
    let last = lane.uncertain ? undefined : this.#known.get(subject);
    // A first transition is tried on an empty subject without asking: that saves a round trip on a new alert.
    if (last === undefined && alert.transition === 1n && !lane.uncertain) last = EMPTY;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      last ??= await this.#readLast(subject, session);
      const offset = this.#offsets.get(subject) ?? 0n;
      const counted = { ...ours, transition: ours.transition + offset };
      const verdict = last.standing === undefined ? 'publish' : judge(counted, last.standing);
      if (verdict !== 'publish') {
        this.#remember(subject, last);
        return verdict;
      }
      const next = (last.standing?.transition ?? 0n) + 1n;
      const transition = counted.transition > next ? counted.transition : next;
      if (await this.#send(subject, { ...alert, transition }, last.seq, session)) {
        if (transition !== alert.transition) remember(this.#offsets, subject, transition - alert.transition);
        return 'publish';
      }
      last = undefined;
    }
    throw new FleetError('unavailable', `Cannot publish to ${subject}: another owner keeps writing to it`);
  }

  /** False where the subject's last message is not the one expected, or the message may have been there before. */
  async #send(subject: string, message: Alert, expected: number, session: NatsSession): Promise<boolean> {
    const head = headers();
    head.set('Gpufleet-Severity', severityName(message.severity));
    head.set('Gpufleet-State', stateName(message));
    head.set('Gpufleet-Schema', AlertSchema.typeName);
    const msgID = messageId(message);
    try {
      const ack = await session.js.publish(subject, encodeAlert(message), {
        headers: head,
        msgID,
        expect: { lastSubjectSequence: expected },
      });
      // A dropped and raised alert counts from 1 again: within the server's two minutes the id alone proves nothing.
      if (ack.duplicate) return false;
      this.#remember(subject, { seq: ack.seq, standing: standingOf(message) });
      if (this.#tail === undefined || ack.seq > this.#tail.seq || this.#tail.created !== this.#created) {
        this.#tail = { created: this.#created, seq: ack.seq, messageId: msgID };
      }
      return true;
    } catch (thrown) {
      if (hasCode(thrown, JetStreamApiCodes.StreamWrongLastSequence)) return false;
      throw thrown;
    }
  }

  async #readLast(subject: string, session: NatsSession): Promise<Last> {
    const message = await session.jsm.streams.getMessage(this.#options.stream, { last_by_subj: subject });
    if (message === null) return EMPTY;
    const alert = decodeAlert(message.string());
    return { seq: message.seq, standing: alert && standingOf(alert) };
  }

  #remember(subject: string, last: Last): void {
    remember(this.#known, subject, last);
  }

  /** Marks what was acknowledged, many in one write. A mark that is lost makes one more publish, which is refused. */
  #mark(): void {
    if (this.#marking !== undefined || this.#acked.length === 0) return;
    const acked = this.#acked;
    this.#acked = [];
    this.#marking = this.#spool
      .sent(acked, this.#tail)
      .catch((thrown: unknown) => {
        this.#options.logger.error(
          { why: describeError(thrown) },
          'cannot mark published alerts in the spool',
        );
      })
      .finally(() => {
        this.#marking = undefined;
        this.#mark();
      });
  }

  #later(action: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, RETRY_MS);
    this.#timers.add(timer);
  }
}

/** Sets the newest entry of a map of bounded size; the one set longest ago goes. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  if (map.size >= MAX_KNOWN) {
    const oldest = map.keys().next();
    if (!oldest.done) map.delete(oldest.value);
  }
  map.set(key, value);
}
