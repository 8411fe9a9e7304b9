import { create } from '@bufbuild/protobuf';
import {
  type Ack,
  type Hello,
  RecordSchema,
  StreamRequestSchema,
  type StreamResponse,
  type Welcome,
  Lane as WireLane,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { decodeEventWire, decodeLossWire, eventToWire, RecordKind, splitTick } from '#shared/wire/record.ts';
import type { Delivery, Lane } from './delivery.ts';
import type { IngestStream } from './ingest-stream.ts';
import type { LiveRecord, RecordSource } from './record-source.ts';

/** A stream without a Welcome, or without any answer while records wait for one, is given up after this, ms. */
const ANSWER_DEADLINE_MS = 20_000;
/** Until Welcome says otherwise. */
const DEFAULT_WINDOW_BYTES = 256 * 1024;
/** How long a stream at shutdown may take to answer what is in flight. */
const DRAIN_MS = 2_000;

export interface SessionEvents {
  welcome(welcome: Welcome): void;
  ack(ack: Ack): void;
  sent(lane: Lane, bytes: number): void;
}

/** The state of one stream: run indices, dictionary ids, delta encoders. Ends with it. */
export class Session {
  welcomed = false;
  windowBytes = DEFAULT_WINDOW_BYTES;
  backfillOpen = true;
  readonly liveRun: number;
  /** Slots of the newest tick: the best estimate for a record that cannot be read. */
  lastSlots = 0;
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
  #waitingSince: number | undefined;
  #draining = false;

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
        this.windowBytes = message.value.windowBytes || DEFAULT_WINDOW_BYTES;
        this.backfillOpen = message.value.backfillOpen;
        this.#events.welcome(message.value);
      } else if (message.case === 'ack') {
        if (message.value.windowBytes > 0) this.windowBytes = message.value.windowBytes;
        this.backfillOpen = message.value.backfillOpen;
        this.#events.ack(message.value);
        if (this.#draining && this.#idle()) this.#stream.end();
      }
    } catch (error) {
      this.#fail(error);
    }
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
    this.#draining = true;
    if (this.#idle()) this.#stream.end();
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
    const frame = encoder.encode(tick);
    this.lastSlots = dictionary.series.length;
    this.#sendRecord(
      this.liveRun,
      sequence,
      'live',
      { case: 'tick', value: { dictionary: id, frame } },
      bytes,
    );
  }

  sendEvent(run: number, sequence: number, event: FleetEvent, bytes: number, lane: Lane): void {
    this.#sendRecord(run, sequence, lane, { case: 'event', value: eventToWire(event) }, bytes);
  }

  /** Sends a record as it lies on disk; returns why it cannot be sent, or undefined. */
  sendStored(
    run: number,
    record: { sequence: number; kind: RecordKind; body: Uint8Array },
  ): string | undefined {
    const { sequence, kind, body } = record;
    switch (kind) {
      case RecordKind.Tick: {
        const { hash, frame } = splitTick(body);
        const dictionary = this.#source.dictionaries.get(hash);
        if (!dictionary) return 'its dictionary is gone';
        const id = this.#idOf(dictionary);
        this.#sendRecord(
          run,
          sequence,
          'backfill',
          { case: 'tick', value: { dictionary: id, frame } },
          body.length,
        );
        return undefined;
      }
      case RecordKind.Event:
        this.#sendRecord(
          run,
          sequence,
          'backfill',
          { case: 'event', value: decodeEventWire(body) },
          body.length,
        );
        return undefined;
      case RecordKind.Loss:
        this.#sendRecord(
          run,
          sequence,
          'backfill',
          { case: 'loss', value: decodeLossWire(body) },
          body.length,
        );
        return undefined;
      case RecordKind.Dictionary:
        // The tick that needs it brings it; in sequence it only has to be acknowledged.
        this.#sendRecord(run, sequence, 'backfill', { case: 'dictionary', value: {} }, body.length);
        return undefined;
    }
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
    this.#sendRecord(run, sequence, lane, { case: 'dictionary', value }, 0);
    return id;
  }

  #sendRecord(
    run: number,
    sequence: number,
    lane: Lane,
    body: NonNullable<Parameters<typeof create<typeof RecordSchema>>[1]>['body'],
    bytes: number,
  ): void {
    if (this.#draining) return;
    const record = create(RecordSchema, {
      run: this.#counters.indexOf(run),
      sequence: BigInt(sequence),
      lane: lane === 'live' ? WireLane.LIVE : WireLane.BACKFILL,
      body: body!,
    });
    if (sequence > 0) this.#delivery.sent(run, sequence, bytes, lane);
    this.#stream.send(create(StreamRequestSchema, { message: { case: 'record', value: record } }));
    this.#events.sent(lane, bytes);
  }

  #idle(): boolean {
    return this.#delivery.inFlightBytes('live') === 0 && this.#delivery.inFlightBytes('backfill') === 0;
  }
}
