import { create } from '@bufbuild/protobuf';
import {
  type Ack,
  type CommandRequest,
  type CommandResult,
  type Hello,
  RecordSchema,
  type Replay,
  type Status,
  StatusSchema,
  StreamRequestSchema,
  type StreamResponse,
  type Welcome,
  Lane as WireLane,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { REASONS_SINCE_PROTOCOL, withOlderModes } from '#shared/wire/older-modes.ts';
import { decodeEventWire, decodeLossWire, eventToWire, RecordKind, splitTick } from '#shared/wire/record.ts';
import type { Delivery, Lane } from './delivery.ts';
import type { IngestStream } from './ingest-stream.ts';
import type { LiveRecord, ReadRecord, RecordSource } from './record-source.ts';

/** A stream without a Welcome, or without any answer while records wait for one, is given up after this, ms. */
const ANSWER_DEADLINE_MS = 20_000;
/** Until Welcome says otherwise. */
const DEFAULT_WINDOW_BYTES = 256 * 1024;
/** How long a stream at shutdown may take to answer what is in flight. */
const DRAIN_MS = 2_000;
/** Ticks of one backlog message, and about its bytes: a live tick never waits behind much more than one. */
const TICKS_PER_MESSAGE = 120;
const MESSAGE_BYTES = 32 * 1024;

export interface SessionEvents {
  welcome(welcome: Welcome): void;
  ack(ack: Ack): void;
  replay(replay: Replay): void;
  command(request: CommandRequest): void;
  sent(lane: Lane, records: number, bytes: number): void;
}

/** The state of one stream: run indices, dictionary ids, delta encoders. Ends with it. */
export class Session {
  welcomed = false;
  windowBytes = DEFAULT_WINDOW_BYTES;
  backfillWindowBytes = DEFAULT_WINDOW_BYTES;
  backfillOpen = true;
  readonly liveRun: number;
  /** Rejects when the other side breaks the protocol or stops answering. */
  readonly failed: Promise<never>;
  readonly #fail: (error: unknown) => void;
  readonly #stream: IngestStream;
  readonly #delivery: Delivery;
  readonly #source: RecordSource;
  readonly #events: SessionEvents;
  readonly #clock: Clock;
  /** Run counters by index in Hello. */
  readonly #counters: number[];
  readonly #dictionaryIds = new Map<bigint, number>();
  readonly #encoders = new Map<Dictionary, FrameEncoder>();
  #lastAnswerAt = 0;
  #welcomedAt = 0;
  #waitingSince: number | undefined;
  #draining = false;
  /** The other side does not know why a slot may have no value. */
  #olderModes = false;

  constructor(
    stream: IngestStream,
    delivery: Delivery,
    source: RecordSource,
    clock: Clock,
    events: SessionEvents,
  ) {
    this.#clock = clock;
    this.#stream = stream;
    this.#delivery = delivery;
    this.#source = source;
    this.#events = events;
    this.#counters = source.runs.map((run) => run.counter);
    this.liveRun = source.live.counter;
    const { promise, reject } = Promise.withResolvers<never>();
    this.failed = promise;
    this.failed.catch(() => {});
    this.#fail = reject;
  }

  hello(hello: Hello): void {
    this.#waitingSince = this.#clock.monotonic();
    this.#stream.send(create(StreamRequestSchema, { message: { case: 'hello', value: hello } }));
  }

  counterOf(index: number): number | undefined {
    return this.#counters[index];
  }

  receive(response: StreamResponse): void {
    this.#lastAnswerAt = this.#clock.monotonic();
    this.#waitingSince = undefined;
    try {
      const { message } = response;
      if (message.case === 'welcome') {
        this.welcomed = true;
        this.#welcomedAt = this.#lastAnswerAt;
        this.#olderModes = message.value.protocolVersion < REASONS_SINCE_PROTOCOL;
        this.#windows(message.value);
        this.#events.welcome(message.value);
      } else if (message.case === 'ack') {
        this.#windows(message.value);
        this.#events.ack(message.value);
        if (this.#draining && this.#idle()) this.#stream.end();
      } else if (message.case === 'replay') {
        this.#events.replay(message.value);
      } else if (message.case === 'commandRequest') {
        this.#events.command(message.value);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #windows(from: Pick<Welcome, 'windowBytes' | 'backfillWindowBytes' | 'backfillOpen'>): void {
    if (from.windowBytes > 0) this.windowBytes = from.windowBytes;
    this.backfillWindowBytes = from.backfillWindowBytes || this.windowBytes;
    this.backfillOpen = from.backfillOpen;
  }

  /** Says how far behind this agent is. */
  sendStatus(status: Status): void {
    if (this.#draining) return;
    status.sinceWelcomeMs = BigInt(Math.floor(this.#clock.monotonic() - this.#welcomedAt));
    this.#stream.send(create(StreamRequestSchema, { message: { case: 'status', value: status } }));
  }

  /** Says what became of a command that the aggregator asked for. */
  sendCommandResult(value: CommandResult): void {
    if (this.#draining) return;
    this.#stream.send(create(StreamRequestSchema, { message: { case: 'commandResult', value } }));
  }

  /** Gives up a stream that owes an answer for too long: a half-open connection must not hold the samples. */
  checkAnswers(): void {
    const now = this.#clock.monotonic();
    if (this.#waitingSince === undefined) {
      if (!this.#idle()) this.#waitingSince = Math.max(now, this.#lastAnswerAt);
      return;
    }
    if (now - this.#waitingSince > ANSWER_DEADLINE_MS) {
      this.#fail(new FleetError('unavailable', `Cannot go on: no answer for ${ANSWER_DEADLINE_MS / 1000} s`));
    }
  }

  /** No new records; ends once everything in flight is answered, or after a moment. */
  drain(): void {
    if (this.#idle()) this.#stream.end();
    else if (this.welcomed) this.sendStatus(create(StatusSchema, { draining: true }));
    this.#draining = true;
    setTimeout(() => this.#stream[Symbol.dispose](), DRAIN_MS).unref();
  }

  sendLiveTick(record: Extract<LiveRecord, { tick: Tick }>): void {
    const { tick, sequence, bytes, dictionarySequence } = record;
    const { dictionary } = tick;
    if (dictionarySequence !== undefined) {
      this.#sendDictionary(dictionary, this.liveRun, dictionarySequence, 'live');
    }
    const id = this.#idOf(dictionary);
    let encoder = this.#encoders.get(dictionary);
    if (!encoder) {
      for (const other of this.#encoders.keys())
        if (other.group === dictionary.group) this.#encoders.delete(other);
      encoder = new FrameEncoder(dictionary);
      this.#encoders.set(dictionary, encoder);
    }
    const frame = this.#frame(encoder.encode(tick));
    this.#sendRecord(
      this.liveRun,
      [sequence],
      'live',
      { case: 'tick', value: { dictionary: id, frame } },
      bytes,
    );
  }

  sendEvent(run: number, sequence: number, event: FleetEvent, bytes: number, lane: Lane): void {
    this.#sendRecord(run, [sequence], lane, { case: 'event', value: eventToWire(event) }, bytes);
  }

  /**
   * Sends records as they were read from disk: ticks of a dictionary together, the others each by itself. Returns
   * those that cannot be sent, with the reason.
   */
  sendStored(run: number, records: readonly ReadRecord[]): { sequence: number; why: string }[] {
    const faults: { sequence: number; why: string }[] = [];
    const batches = new Map<bigint, TickBatch>();
    for (const record of records) {
      if (!record.ok) {
        faults.push({ sequence: record.sequence, why: record.why });
        continue;
      }
      const { sequence, kind, body } = record;
      if (kind !== RecordKind.Tick) {
        const fault = this.#sendOther(run, sequence, kind, body);
        if (fault) faults.push({ sequence, why: fault });
        continue;
      }
      const { hash, frame } = splitTick(body);
      const dictionary = this.#source.dictionaries.get(hash);
      if (!dictionary) {
        faults.push({ sequence, why: 'its dictionary is gone' });
        continue;
      }
      let batch = batches.get(hash);
      if (!batch) {
        batch = { dictionary, sequences: [], frames: [] };
        batches.set(hash, batch);
      }
      batch.sequences.push(sequence);
      batch.frames.push(frame);
    }
    for (const batch of batches.values()) this.#sendTicks(run, batch);
    return faults;
  }

  /** Returns why it cannot be sent, or undefined. */
  #sendOther(
    run: number,
    sequence: number,
    kind: Exclude<RecordKind, typeof RecordKind.Tick>,
    body: Uint8Array,
  ): string | undefined {
    try {
      this.#sendRecord(run, [sequence], 'backfill', bodyOf(kind, body), body.length);
      return undefined;
    } catch (error) {
      return describeError(error);
    }
  }

  /** All of one dictionary before any of the next: its differences follow each other on the stream. */
  #sendTicks(run: number, { dictionary, sequences, frames }: TickBatch): void {
    const id = this.#idOf(dictionary);
    let from = 0;
    while (from < frames.length) {
      let to = from;
      let bytes = 0;
      while (to < frames.length && to - from < TICKS_PER_MESSAGE && bytes < MESSAGE_BYTES)
        bytes += frames[to++]!.length;
      const numbers = sequences.slice(from, to);
      const value = {
        dictionary: id,
        gaps: numbers.slice(1).map((sequence, i) => sequence - numbers[i]!),
        frames: frames.slice(from, to).map((frame) => this.#frame(frame)),
      };
      this.#sendRecord(run, numbers, 'backfill', { case: 'ticks', value }, bytes);
      from = to;
    }
  }

  #frame(frame: Uint8Array): Uint8Array {
    return this.#olderModes ? withOlderModes(frame) : frame;
  }

  /** The stream's id of a dictionary, which is sent first where this stream has not seen it. */
  #idOf(dictionary: Dictionary): number {
    const id = this.#dictionaryIds.get(dictionary.hash);
    if (id !== undefined) return id;
    return this.#sendDictionary(dictionary, this.liveRun, 0, 'backfill');
  }

  #sendDictionary(dictionary: Dictionary, run: number, sequence: number, lane: Lane): number {
    const id = this.#dictionaryIds.get(dictionary.hash) ?? this.#dictionaryIds.size + 1;
    this.#dictionaryIds.set(dictionary.hash, id);
    const value = dictionaryToWire(dictionary, id);
    this.#sendRecord(run, [sequence], lane, { case: 'dictionary', value }, 0);
    return id;
  }

  #sendRecord(run: number, sequences: readonly number[], lane: Lane, body: Body, bytes: number): void {
    if (this.#draining) return;
    const [first] = sequences;
    const record = create(RecordSchema, {
      run: this.#counters.indexOf(run),
      sequence: BigInt(first!),
      lane: lane === 'live' ? WireLane.LIVE : WireLane.BACKFILL,
      body,
    });
    if (first! > 0) {
      // Whole bytes: what is added here is what is taken off again.
      const each = Math.ceil(bytes / sequences.length);
      for (const sequence of sequences) this.#delivery.sent(run, sequence, each, lane);
    }
    this.#stream.send(create(StreamRequestSchema, { message: { case: 'record', value: record } }));
    this.#events.sent(lane, sequences.length, bytes);
  }

  #idle(): boolean {
    return this.#delivery.inFlightBytes('live') === 0 && this.#delivery.inFlightBytes('backfill') === 0;
  }
}

type Body = NonNullable<NonNullable<Parameters<typeof create<typeof RecordSchema>>[1]>['body']>;

interface TickBatch {
  readonly dictionary: Dictionary;
  readonly sequences: number[];
  readonly frames: Uint8Array[];
}

function bodyOf(kind: Exclude<RecordKind, typeof RecordKind.Tick>, body: Uint8Array): Body {
  if (kind === RecordKind.Event) return { case: 'event', value: decodeEventWire(body) };
  if (kind === RecordKind.Loss) return { case: 'loss', value: decodeLossWire(body) };
  // The tick that needs a dictionary brings it; in sequence it only has to be acknowledged.
  return { case: 'dictionary', value: {} };
}
