import { create } from '@bufbuild/protobuf';
import {
  type Hello,
  Lane,
  ReplaySchema,
  type StreamRequest,
  type StreamResponse,
  StreamResponseSchema,
  WelcomeSchema,
  type Dictionary as WireDictionary,
  type Record as WireRecord,
  type Replay as WireReplay,
  type Tick as WireTick,
  type Ticks as WireTicks,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { type Range, RangeSet } from '#shared/model/range-set.ts';
import { runName } from '#shared/model/run.ts';
import { dictionaryFromWire } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { eventFromWire, lossFromWire } from '#shared/wire/record.ts';
import { AckBox } from './ack-box.ts';
import { type AdmissionLimits, admitHello, DictionaryTable } from './admission.ts';
import { AgentCommands, away, type CommandAnswer, type CommandOrder, refused } from './agent-commands.ts';
import type { IngestMetrics } from './ingest-metrics.ts';
import type { IngestSink, Outcome, Peer, ReplayOrder } from './ingest-sink.ts';
import { RateLimit } from './rate-limit.ts';
import type { SpanTable } from './span-table.ts';

/** Protocol versions that this aggregator speaks; see Hello.protocol_version. */
export const PROTOCOL_VERSION = 2;
const OLDEST_PROTOCOL_VERSION = 1;
/** Ticks of one message: ten minutes at 1 s. */
const MAX_TICKS = 600;
/** A stream with this many windows unaccepted does not keep to what Welcome said. */
const WINDOWS_TOLERATED = 4;
/** Commands that an agent may name. */
const MAX_COMMANDS = 64;
/** What a record under way costs beside its bytes. */
const RECORD_COST_BYTES = 100;

/**
 * An acknowledgement waits this long for more records to cover. A live tick a second is in no hurry: its bytes are
 * a thousandth of the window, and an acknowledgement of its own costs as much on the wire as a third of the tick.
 */
const ACK_LINGER_MS = 3_000;
/** Where an agent waits for it: backlog, much under way, deferred or refused records, an agent that stops. */
const ACK_SOON_MS = 100;
/** Settled bytes from which on an acknowledgement goes soon: an eighth of the window. */
const ACK_SOON_SHARE = 1 / 8;
/** Settled records from which on: an agent that sends more than a few a second may wait for room. */
const ACK_SOON_RECORDS = 8;
/** Timestamps that the store could hold, Unix ms. */
export interface TimeBounds {
  readonly minMs: number;
  readonly maxMs: number;
}

export interface AgentStreamOptions {
  readonly sink: IngestSink;
  readonly limits: AdmissionLimits;
  readonly windowBytes: number;
  /** Of the backfill lane, now: it depends on how many streams there are. */
  readonly backfillWindowBytes: () => number;
  /** Shared by all streams of a server. */
  readonly spans: SpanTable;
  readonly shard: string;
  /** Node that the stream's credential is bound to, or undefined. */
  readonly boundNode: string | undefined;
  /** Both sides have shown a certificate: commands may be sent. */
  readonly mutual?: boolean;
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
  readonly #rate: RateLimit;
  #unacceptedBytes = 0;
  #peer: Peer | undefined;
  #ackTimer: NodeJS.Timeout | undefined;
  #ackSoon = false;
  #settledBytes = 0;
  #settledRecords = 0;
  #draining = false;
  /** Monotonic ms of the last acknowledgement. */
  #acknowledgedAt = 0;
  /** Monotonic ms of Welcome. */
  #welcomedAt = 0;
  #closed = false;
  #commands: AgentCommands | undefined;
  /** Monotonic ms of the newest record. */
  lastRecordAt: number;

  constructor(options: AgentStreamOptions) {
    this.#options = options;
    this.#box = new AckBox(options.windowBytes);
    this.#dictionaries = new DictionaryTable(options.limits);
    this.lastRecordAt = options.clock.monotonic();
    this.#rate = new RateLimit(options.limits.samplesPerSecond, this.lastRecordAt);
  }

  get peer(): Peer | undefined {
    return this.#peer;
  }

  /** Handles one message. Throws a FleetError that ends the stream. */
  receive({ message }: StreamRequest): void {
    if (message.case === 'hello') this.#hello(message.value);
    else if (message.case === 'record') this.#record(message.value);
    else if (message.case === 'status' && this.#peer) {
      if (message.value.draining) {
        this.#draining = true;
        this.#ackLater(true);
      }
      this.#options.sink.status(this.#peer, {
        oldestUndurableMs: Number(message.value.oldestUndurableUnixMs),
        pendingRecords: Number(message.value.pendingRecords),
        pendingSamples: Number(message.value.pendingSamples),
        samplesPerSecond: message.value.samplesPerSecond,
        lateMs: this.#lateMs(message.value.sinceWelcomeMs),
      });
    } else if (message.case === 'commandResult') this.#commands?.answer(message.value);
    // Another kind of message is a later version's: it is not needed to understand the rest.
  }

  /** By clocks that do not step, the agent's and this one's. */
  #lateMs(sinceWelcomeMs: bigint | undefined): number {
    if (sinceWelcomeMs === undefined) return 0;
    return Math.max(0, this.#options.clock.monotonic() - this.#welcomedAt - Number(sinceWelcomeMs));
  }

  /** Asks the agent to send a part of its buffer again. */
  replay(order: ReplayOrder): void {
    if (this.#closed || !this.#peer) return;
    this.#options.send(
      create(StreamResponseSchema, {
        message: { case: 'replay', value: replayToWire(order, this.#options.clock.now()) },
      }),
    );
  }

  /** Has the agent run a command of its list. Never rejects. */
  async command(order: CommandOrder, signal: AbortSignal): Promise<CommandAnswer> {
    if (this.#closed || !this.#commands) return away('its stream is not open yet');
    if (!this.#options.mutual)
      return refused(
        'its stream is not mutual TLS: commands need ingest.tls.ca, and a certificate of the agent',
      );
    return await this.#commands.ask(order, signal);
  }

  /** Whether the agent has heard of the store within the last `ms`. */
  heardWithin(ms: number): boolean {
    return this.#options.clock.monotonic() - this.#acknowledgedAt < ms;
  }

  /** Acknowledges now: what is collected, and the store's state in any case. */
  acknowledge(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#ackSoon = false;
    this.#settledBytes = 0;
    this.#settledRecords = 0;
    if (this.#closed || !this.#peer) return;
    this.#acknowledgedAt = this.#options.clock.monotonic();
    this.#options.send(
      create(StreamResponseSchema, {
        message: {
          case: 'ack',
          value: this.#box.take(this.#options.sink.store, this.#options.backfillWindowBytes()),
        },
      }),
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ackTimer);
    this.#commands?.close();
    if (this.#peer) this.#options.sink.disconnected(this.#peer);
  }

  #hello(hello: Hello): void {
    const { sink, limits, boundNode, address, clock, shard, windowBytes } = this.#options;
    if (this.#peer) throw new FleetError('invalid_input', 'Cannot read Hello: the stream already had one');
    const version = negotiate(hello);
    const source = admitHello(hello, boundNode, limits);
    const peer: Peer = {
      source,
      address,
      agentVersion: hello.agentVersion.slice(0, 64),
      machineId: hello.machineId,
      clockSkewSeconds: (Number(hello.wallTimeUnixMs) - clock.now()) / 1000,
      runs: hello.runs.map((run) => ({
        id: runName(run.id),
        firstSequence: Number(run.firstSequence),
        lastSequence: Number(run.lastSequence),
        cleanEnd: run.cleanEnd,
      })),
    };
    this.#options.onHello(this, peer);
    this.#peer = peer;
    this.#commands = new AgentCommands(hello.commands.slice(0, MAX_COMMANDS), (value) =>
      this.#options.send(create(StreamResponseSchema, { message: { case: 'commandRequest', value } })),
    );
    sink.connected(peer);
    this.#welcomedAt = this.#options.clock.monotonic();
    this.#options.send(
      create(StreamResponseSchema, {
        message: {
          case: 'welcome',
          value: create(WelcomeSchema, {
            protocolVersion: version,
            shard,
            windowBytes,
            backfillWindowBytes: this.#options.backfillWindowBytes(),
            replays: sink.replays(peer).map((order) => replayToWire(order, clock.now())),
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
    if (record.run >= peer.runs.length)
      throw new FleetError('invalid_input', `Cannot read record: Hello named no run ${record.run}`);
    if (record.sequence > BigInt(Number.MAX_SAFE_INTEGER))
      throw new FleetError('invalid_input', 'Cannot read record: its sequence is out of range');
    this.lastRecordAt = this.#options.clock.monotonic();
    const live = record.lane === Lane.LIVE;
    if (record.body.case === 'ticks')
      this.#options.metrics.records('tick', live, record.body.value.frames.length);
    else this.#options.metrics.records(record.body.case ?? 'none', live);
    this.#take(peer, record, live);
  }

  #take(peer: Peer, { run, sequence: wide, body }: WireRecord, live: boolean): void {
    const { sink } = this.#options;
    const sequence = Number(wide);
    const one: Range[] = [{ first: sequence, last: sequence }];
    switch (body.case) {
      case 'tick':
        this.#settle(run, one, body.value.frame.length, this.#tick(peer, body.value, live));
        break;
      case 'ticks':
        this.#ticks(peer, run, sequence, body.value);
        break;
      case 'event':
        this.#settle(
          run,
          one,
          body.value.text.length,
          sink.event(peer.source, eventFromWire(body.value), !live),
        );
        break;
      case 'loss':
        this.#settle(
          run,
          one,
          0,
          sink.loss(peer.source, `${peer.runs[run]!.id}/${sequence}`, lossFromWire(body.value)),
        );
        // Until it is answered, an agent whose ring is full must carry it on into the next one.
        this.#ackLater(true);
        break;
      case 'dictionary':
        this.#dictionary(body.value);
        this.#settle(run, one, 0, { state: 'accepted', epoch: sink.store.epoch });
        break;
      default:
        // A kind of a later version: it cannot be kept here, and must not stop the stream.
        this.#settle(
          run,
          one,
          0,
          this.#refuse('unknown_kind', 'this aggregator does not know this kind of record'),
        );
    }
  }

  #dictionary(wire: WireDictionary): void {
    // A dictionary record of the backlog is only acknowledged: the tick that needs it brings it.
    if (wire.id === 0) return;
    this.#dictionaries.add(wire.id, dictionaryFromWire(wire));
    this.#options.metrics.series(this.#dictionaries.seriesCount);
  }

  #tick(peer: Peer, tick: WireTick, live: boolean): Promise<Outcome> | Outcome {
    const { sink, metrics, clock } = this.#options;
    const entry = this.#dictionaries.get(tick.dictionary);
    if ('refusal' in entry) return this.#refuse('series_limit', entry.refusal);
    const { dictionary } = entry;
    const decoder = this.#decoderOf(dictionary, live);
    const timestampMs = decoder.decode(tick.frame);
    const fault = this.#timeFault(timestampMs);
    if (fault) return fault;
    const slots = dictionary.series.length;
    if (live && !this.#rate.take(slots, clock.monotonic())) {
      metrics.rateLimited(slots);
      return { state: 'deferred' };
    }
    metrics.samples(slots);
    return sink.block({
      source: peer.source,
      dictionary,
      timestampMs,
      values: decoder.values,
      states: decoder.states,
      live,
    });
  }

  /** Backlog: what decodes and is admitted goes on in spans, what does not is refused by itself. */
  #ticks(peer: Peer, run: number, first: number, ticks: WireTicks): void {
    const { sink, spans, metrics } = this.#options;
    const entry = this.#dictionaries.get(ticks.dictionary);
    const { frames, gaps } = ticks;
    if (frames.length === 0 || frames.length > MAX_TICKS || gaps.length !== frames.length - 1)
      throw new FleetError(
        'invalid_input',
        `Cannot read ticks: ${frames.length} frames and ${gaps.length} gaps, at most ${MAX_TICKS} and one gap less are allowed`,
      );
    if ('refusal' in entry) {
      const all = new RangeSet();
      let each = first;
      all.add(each);
      for (const gap of gaps) {
        each += gap;
        all.add(each);
      }
      this.#settle(run, all.ranges, 0, this.#refuse('series_limit', entry.refusal));
      return;
    }
    const { dictionary } = entry;
    const decoder = this.#decoderOf(dictionary, false);
    const slots = dictionary.series.length;
    const taken = new RangeSet();
    let bytes = 0;
    const flush = (): void => {
      if (spans.ticks === 0) return;
      metrics.samples(spans.ticks * slots);
      const outcome = sink.span(spans.take(peer.source, dictionary));
      outcome.then(
        () => this.#ackLater(true),
        () => {},
      );
      this.#settle(run, [...taken.ranges], bytes, outcome);
      taken.clear();
      bytes = 0;
    };
    spans.clear();
    let sequence = first;
    for (let i = 0; i < frames.length; i++) {
      if (i > 0) sequence += gaps[i - 1]!;
      const refused = this.#decodeBacklog(decoder, frames[i]!);
      if (typeof refused === 'object') {
        this.#settle(run, [{ first: sequence, last: sequence }], 0, refused);
        continue;
      }
      if (!spans.fits(slots)) flush();
      spans.add(refused, decoder.values, decoder.states);
      taken.add(sequence);
      bytes += frames[i]!.length;
    }
    flush();
  }

  /** The time of a frame that may go on, or why it may not. */
  #decodeBacklog(decoder: FrameDecoder, frame: Uint8Array): number | Outcome {
    let timestampMs: number;
    try {
      timestampMs = decoder.decode(frame);
    } catch (error) {
      // It lies so on the agent's disk: a new stream would bring it again for ever.
      return this.#refuse('undecodable', describeError(error));
    }
    return this.#timeFault(timestampMs) ?? timestampMs;
  }

  #timeFault(timestampMs: number): Outcome | undefined {
    const { minMs, maxMs } = this.#options.timeBounds();
    if (timestampMs < minMs)
      return this.#refuse(
        'too_old',
        `its time ${iso(timestampMs)} is before ${iso(minMs)}, from when on the store keeps samples`,
      );
    if (timestampMs > maxMs)
      return this.#refuse('too_far_ahead', `its time ${iso(timestampMs)} is ahead: check the node's clock`);
    return undefined;
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

  #refuse(reason: string, detail: string): Outcome {
    this.#options.metrics.refused(reason);
    return { state: 'refused', reason, detail };
  }

  /** Books the outcome of records once it is known; until then their bytes count as unaccepted. */
  #settle(run: number, ranges: readonly Range[], bytes: number, outcome: Promise<Outcome> | Outcome): void {
    if (ranges[0]!.first === 0) return;
    if (!(outcome instanceof Promise)) {
      this.#settled(run, ranges, bytes, outcome);
      return;
    }
    const cost = bytes + RECORD_COST_BYTES;
    this.#unacceptedBytes += cost;
    const limit = WINDOWS_TOLERATED * this.#options.windowBytes;
    if (this.#unacceptedBytes > limit)
      throw new FleetError(
        'resource_exhausted',
        `Cannot take more: ${this.#unacceptedBytes} bytes are unaccepted, the window is ${this.#options.windowBytes}`,
      );
    outcome
      // What nobody foresaw must not end the process: the agent keeps the record.
      .catch((): Outcome => ({ state: 'deferred' }))
      .then((settled) => {
        this.#unacceptedBytes -= cost;
        this.#settled(run, ranges, bytes, settled);
      });
  }

  #settled(run: number, ranges: readonly Range[], bytes: number, outcome: Outcome): void {
    if (this.#closed) return;
    for (const { first, last } of ranges) {
      if (this.#box.mustSendBefore(outcome)) this.acknowledge();
      this.#box.add(run, first, last, outcome);
    }
    this.#settledBytes += bytes;
    this.#settledRecords++;
    this.#ackLater(
      this.#draining ||
        this.#settledRecords >= ACK_SOON_RECORDS ||
        outcome.state !== 'accepted' ||
        this.#settledBytes >= this.#options.windowBytes * ACK_SOON_SHARE,
    );
  }

  #ackLater(soon: boolean): void {
    if (this.#ackTimer && (this.#ackSoon || !soon)) return;
    clearTimeout(this.#ackTimer);
    this.#ackSoon = soon;
    this.#ackTimer = setTimeout(() => this.acknowledge(), soon ? ACK_SOON_MS : ACK_LINGER_MS);
  }
}

/** The version that both sides will speak. Throws `version_mismatch` where there is none. */
function negotiate({ protocolVersion, oldestProtocolVersion }: Hello): number {
  const newest = Math.min(PROTOCOL_VERSION, protocolVersion);
  const oldest = Math.max(OLDEST_PROTOCOL_VERSION, oldestProtocolVersion || protocolVersion);
  if (newest >= oldest) return newest;
  throw new FleetError(
    'version_mismatch',
    `Cannot speak protocol ${protocolVersion} (the agent's; ${oldestProtocolVersion || protocolVersion} at the oldest): this aggregator speaks ${OLDEST_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}; update ${protocolVersion < OLDEST_PROTOCOL_VERSION ? 'the agent' : 'the aggregator'}`,
  );
}

/** An order without an end is about a store that was set back: what came since then is missing too. */
function replayToWire({ id, fromMs, toMs, reason }: ReplayOrder, nowMs: number): WireReplay {
  const acceptedWithinMs = BigInt(toMs === 0 ? Math.max(0, nowMs - fromMs) : 0);
  return create(ReplaySchema, {
    id,
    fromUnixMs: BigInt(fromMs),
    toUnixMs: BigInt(toMs),
    reason,
    acceptedWithinMs,
  });
}

function iso(timestampMs: number): string {
  const date = new Date(timestampMs);
  return Number.isNaN(date.getTime()) ? String(timestampMs) : date.toISOString();
}
