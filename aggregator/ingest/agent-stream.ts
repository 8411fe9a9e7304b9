import { create } from '@bufbuild/protobuf';
import {
  type Hello,
  Lane,
  type StreamRequest,
  type StreamResponse,
  StreamResponseSchema,
  WelcomeSchema,
  type Dictionary as WireDictionary,
  type Record as WireRecord,
  type Tick as WireTick,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { dictionaryFromWire } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { eventFromWire, lossFromWire } from '#shared/wire/record.ts';
import { AckBox } from './ack-box.ts';
import { type AdmissionLimits, admitHello, DictionaryTable } from './admission.ts';
import type { IngestMetrics } from './ingest-metrics.ts';
import type { IngestSink, Outcome, Peer } from './ingest-sink.ts';

/** The one protocol version so far; see Hello.protocol_version. */
export const PROTOCOL_VERSION = 1;

/** An acknowledgement waits this long for more records to cover. */
const ACK_LINGER_MS = 100;
/** Timestamps that the store could hold, Unix ms. */
export interface TimeBounds {
  readonly minMs: number;
  readonly maxMs: number;
}

export interface AgentStreamOptions {
  readonly sink: IngestSink;
  readonly limits: AdmissionLimits;
  readonly windowBytes: number;
  readonly shard: string;
  /** Node that the stream's credential is bound to, or undefined. */
  readonly boundNode: string | undefined;
  readonly address: string;
  readonly clock: Clock;
  readonly timeBounds: () => TimeBounds;
  /** May refuse the stream by throwing (another live run of the node). */
  readonly onHello: (stream: AgentStream, peer: Peer) => void;
  readonly send: (response: StreamResponse) => void;
  readonly metrics: IngestMetrics;
}

/**
 * One agent's stream: Hello, then records. Every throw ends the stream, and only this one; the agent starts
 * again from a keyframe, and what was not acknowledged comes again.
 */
export class AgentStream {
  readonly #options: AgentStreamOptions;
  readonly #box: AckBox;
  readonly #dictionaries: DictionaryTable;
  /** Live frames are differences, backlog frames stand alone: they must not share a decoder's state. */
  readonly #decoders: Record<'live' | 'backfill', Map<Dictionary, FrameDecoder>> = {
    live: new Map(),
    backfill: new Map(),
  };
  #peer: Peer | undefined;
  #runs = 0;
  #ackTimer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Monotonic ms of the newest record. */
  lastRecordAt: number;

  constructor(options: AgentStreamOptions) {
    this.#options = options;
    this.#box = new AckBox(options.windowBytes);
    this.#dictionaries = new DictionaryTable(options.limits);
    this.lastRecordAt = options.clock.monotonic();
  }

  get peer(): Peer | undefined {
    return this.#peer;
  }

  /** Handles one message. Throws a FleetError that ends the stream. */
  receive({ message }: StreamRequest): void {
    if (message.case === 'hello') this.#hello(message.value);
    else if (message.case === 'record') this.#record(message.value);
    else throw new FleetError('invalid_input', 'Cannot read message: it is of no known kind');
  }

  /** Acknowledges now: what is collected, and the store's state in any case. */
  acknowledge(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.#closed || !this.#peer) return;
    this.#options.send(
      create(StreamResponseSchema, {
        message: { case: 'ack', value: this.#box.take(this.#options.sink.store) },
      }),
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ackTimer);
    if (this.#peer) this.#options.sink.disconnected(this.#peer);
  }

  #hello(hello: Hello): void {
    const { sink, limits, boundNode, address, clock, shard, windowBytes } = this.#options;
    if (this.#peer) throw new FleetError('invalid_input', 'Cannot read Hello: the stream already had one');
    if (hello.protocolVersion < 1)
      throw new FleetError('invalid_input', 'Cannot read Hello: it has no protocol version');
    const source = admitHello(hello, boundNode, limits);
    const peer: Peer = {
      source,
      address,
      agentVersion: hello.agentVersion.slice(0, 64),
      machineId: hello.machineId,
      clockSkewSeconds: (Number(hello.wallTimeUnixMs) - clock.now()) / 1000,
    };
    this.#options.onHello(this, peer);
    this.#peer = peer;
    this.#runs = hello.runs.length;
    sink.connected(peer);
    this.#options.send(
      create(StreamResponseSchema, {
        message: {
          case: 'welcome',
          value: create(WelcomeSchema, {
            protocolVersion: Math.min(PROTOCOL_VERSION, hello.protocolVersion),
            shard,
            windowBytes,
            wallTimeUnixMs: BigInt(clock.now()),
            backfillOpen: sink.store.backfillOpen,
          }),
        },
      }),
    );
  }

  #record(record: WireRecord): void {
    const peer = this.#peer;
    if (!peer) throw new FleetError('invalid_input', 'Cannot read record: Hello must come first');
    if (record.run >= this.#runs)
      throw new FleetError('invalid_input', `Cannot read record: Hello named no run ${record.run}`);
    if (record.sequence > BigInt(Number.MAX_SAFE_INTEGER))
      throw new FleetError('invalid_input', 'Cannot read record: its sequence is out of range');
    this.lastRecordAt = this.#options.clock.monotonic();
    const live = record.lane === Lane.LIVE;
    this.#options.metrics.records(record.body.case ?? 'none', live);
    const outcome = this.#take(peer, record, live);
    const sequence = Number(record.sequence);
    if (sequence > 0) void outcome.then((settled) => this.#settled(record.run, sequence, settled));
  }

  #take(peer: Peer, { body }: WireRecord, live: boolean): Promise<Outcome> {
    const { sink } = this.#options;
    switch (body.case) {
      case 'tick':
        return this.#tick(peer, body.value, live);
      case 'event':
        return sink.event(peer.source, eventFromWire(body.value), !live);
      case 'loss':
        return sink.loss(peer.source, lossFromWire(body.value));
      case 'dictionary':
        this.#dictionary(body.value);
        return Promise.resolve({ state: 'accepted', epoch: sink.store.epoch });
      default:
        // A kind of a later version: it cannot be kept here, and must not stop the stream.
        return Promise.resolve({
          state: 'refused',
          reason: 'unknown_kind',
          detail: 'this aggregator does not know this kind of record',
        });
    }
  }

  #dictionary(wire: WireDictionary): void {
    // A dictionary record of the backlog is only acknowledged: the tick that needs it brings it.
    if (wire.id === 0) return;
    this.#dictionaries.add(wire.id, dictionaryFromWire(wire));
    this.#options.metrics.series(this.#dictionaries.seriesCount);
  }

  #tick(peer: Peer, tick: WireTick, live: boolean): Promise<Outcome> {
    const { sink, metrics, timeBounds } = this.#options;
    const { dictionary, refusal } = this.#dictionaries.get(tick.dictionary);
    const decoder = this.#decoderOf(dictionary, live);
    const timestampMs = decoder.decode(tick.frame);
    if (refusal !== undefined) return this.#refuse('series_limit', refusal);
    const { minMs, maxMs } = timeBounds();
    if (timestampMs < minMs)
      return this.#refuse(
        'too_old',
        `its time ${iso(timestampMs)} is before ${iso(minMs)}, from when on the store keeps samples`,
      );
    if (timestampMs > maxMs)
      return this.#refuse('too_far_ahead', `its time ${iso(timestampMs)} is ahead: check the node's clock`);
    metrics.samples(dictionary.series.length);
    return sink.block({
      source: peer.source,
      dictionary,
      timestampMs,
      values: decoder.values,
      states: decoder.states,
      live,
    });
  }

  #decoderOf(dictionary: Dictionary, live: boolean): FrameDecoder {
    const decoders = this.#decoders[live ? 'live' : 'backfill'];
    let decoder = decoders.get(dictionary);
    if (!decoder) {
      // Of one group only the newest dictionary is in use: its predecessors' state goes.
      for (const other of decoders.keys()) if (other.group === dictionary.group) decoders.delete(other);
      decoder = new FrameDecoder(dictionary);
      decoders.set(dictionary, decoder);
    }
    return decoder;
  }

  #refuse(reason: string, detail: string): Promise<Outcome> {
    this.#options.metrics.refused(reason);
    return Promise.resolve({ state: 'refused', reason, detail });
  }

  #settled(run: number, sequence: number, outcome: Outcome): void {
    if (this.#closed) return;
    if (this.#box.mustSendBefore(outcome)) this.acknowledge();
    this.#box.add(run, sequence, outcome);
    this.#ackTimer ??= setTimeout(() => this.acknowledge(), ACK_LINGER_MS);
  }
}

function iso(timestampMs: number): string {
  const date = new Date(timestampMs);
  return Number.isNaN(date.getTime()) ? String(timestampMs) : date.toISOString();
}
