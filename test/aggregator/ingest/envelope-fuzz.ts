import { create, toBinary } from '@bufbuild/protobuf';
import {
  Lane,
  type StreamRequest,
  StreamRequestSchema,
  StreamResponseSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { Kind } from '#shared/model/dictionary.ts';
import { SLOT_STATE_NAMES, SLOT_STATES } from '#shared/model/slot-state.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { type AdmissionLimits, DEFAULT_LIMITS } from '../../../aggregator/ingest/admission.ts';
import { AgentStream } from '../../../aggregator/ingest/agent-stream.ts';
import { decodeRequest } from '../../../aggregator/ingest/decode-request.ts';
import { ingestMetrics } from '../../../aggregator/ingest/ingest-metrics.ts';
import type { IngestSink, Outcome } from '../../../aggregator/ingest/ingest-sink.ts';
import { SpanTable } from '../../../aggregator/ingest/span-table.ts';
import { expectFleetError } from '../../shared/wire/expect-fleet-error.ts';
import { Fuzz, shortStacks } from '../../support/fuzz.ts';
import { quietSink } from '../../support/quiet-sink.ts';

const ALL_STATES = [...SLOT_STATE_NAMES.keys()];

type Message = StreamRequest['message'];

const NOW = 1_780_000_000_000;
const BOUNDS = { minMs: NOW - 86_400_000, maxMs: NOW + 86_400_000 };
/** Small, so that they are reached. */
const LIMITS: AdmissionLimits = { ...DEFAULT_LIMITS, dictionariesPerStream: 8, seriesPerNode: 60 };
const WINDOW_BYTES = 4096;
/** Messages that are kept to be sent again, and to be damaged. */
const POOL = 1_000;
/** Messages of one stream, where nothing ends it before. */
const STREAM_MESSAGES = 40;
const CODES = ['invalid_input', 'resource_exhausted', 'permission_denied', 'version_mismatch'] as const;
/** What the store says: each of them has its own way back to the agent. */
const OUTCOMES: readonly Outcome[] = [
  { state: 'accepted', epoch: 1n },
  { state: 'accepted', epoch: 2n },
  { state: 'deferred' },
  { state: 'refused', reason: 'poison', detail: 'd' },
];

const dictionaries = [3, 8, 40].map((slots) =>
  createDictionary(
    `g${slots}`,
    1000,
    Array.from({ length: slots }, (_, i) => ({
      name: `m_${i}`,
      labels: [['gpu', String(i)]] as const,
      kind: (i % 2 ? 'counter' : 'gauge') as Kind,
      decimals: i % 4,
      help: '',
      unit: '',
    })),
  ),
);

const HELLO = encode(create(StreamRequestSchema, { message: { case: 'hello', value: helloOf() } }).message);
const DEFINED = dictionaries.map((dictionary, i) =>
  encode(record(0, { case: 'dictionary', value: dictionaryToWire(dictionary, i + 1) }, Lane.BACKFILL)),
);

export interface FuzzResult {
  /** Messages that were taken, and that ended their stream. */
  readonly taken: number;
  readonly ended: number;
  /** What came out below ingest. */
  readonly ticks: number;
  readonly events: number;
}

/**
 * Feeds the bytes of odd messages to streams, as the network would, and checks what comes out at both ends. Throws
 * on anything but a FleetError, and on whatever the stage below must never see.
 */
export async function fuzzEnvelopes(seed: number, inputs: number): Promise<FuzzResult> {
  using _ = shortStacks();
  const fuzz = new Fuzz(seed);
  const frames = dictionaries.map((dictionary) => framesOf(fuzz, dictionary));
  const pool = Array.from({ length: Math.min(POOL, inputs) }, () => encode(oddMessage(fuzz, frames)));
  const seen = { ticks: 0, events: 0 };
  const spans = new SpanTable(500);
  const metrics = ingestMetrics(createRegistry(), () => 1);
  const sink = watchfulSink(fuzz, seen);
  let taken = 0;
  let ended = 0;
  let stream = openStream(sink, spans, metrics);
  let left = 0;
  for (let input = 0; input < inputs; input++) {
    try {
      if (left-- <= 0) {
        // Outcomes arrive behind the call, as the store's do, and are then acknowledged.
        await new Promise((resolve) => setImmediate(resolve));
        stream.acknowledge();
        stream.close();
        stream = openStream(sink, spans, metrics);
        left = STREAM_MESSAGES;
        for (const opening of openings(fuzz)) stream.receive(decodeRequest(opening));
      }
      stream.receive(decodeRequest(inputOf(fuzz, pool, frames)));
      taken++;
    } catch (error) {
      expectFleetError(error, ...CODES);
      ended++;
      left = 0;
    }
  }
  stream.close();
  return { taken, ended, ...seen };
}

/** Mostly from the pool, as it is or damaged: odd messages cost more to make than to read. */
function inputOf(fuzz: Fuzz, pool: Uint8Array[], frames: readonly (readonly Uint8Array[])[]): Uint8Array {
  const dice = fuzz.random();
  if (dice < 0.05) return fuzz.noise(60);
  if (dice < 0.35) return fuzz.mutate(pool);
  const at = fuzz.below(pool.length);
  if (dice < 0.4) pool[at] = encode(oddMessage(fuzz, frames));
  return pool[at]!;
}

function encode(message: Message): Uint8Array {
  return toBinary(StreamRequestSchema, create(StreamRequestSchema, { message }));
}

function openStream(
  sink: IngestSink,
  spans: SpanTable,
  metrics: ReturnType<typeof ingestMetrics>,
): AgentStream {
  return new AgentStream({
    sink,
    limits: LIMITS,
    windowBytes: WINDOW_BYTES,
    backfillWindowBytes: () => WINDOW_BYTES,
    spans,
    shard: 's',
    boundNode: undefined,
    address: '',
    clock: systemClock,
    timeBounds: () => BOUNDS,
    onHello: () => {},
    // An answer that cannot be coded would be thrown in a timer, and end the process.
    send: (response) => void toBinary(StreamResponseSchema, response),
    metrics,
  });
}

/** Checks what ingest promises to the stage below. */
function watchfulSink(fuzz: Fuzz, seen: { ticks: number; events: number }): IngestSink {
  const check = (holds: boolean, what: string): void => {
    if (!holds) throw new Error(`below ingest: ${what}`);
  };
  const isCalendarTime = (ms: number): boolean => !Number.isNaN(new Date(ms).getTime());
  const inBounds = (ms: number): boolean => ms >= BOUNDS.minMs && ms <= BOUNDS.maxMs;
  const outcome = async (): Promise<Outcome> => fuzz.pick(OUTCOMES);
  return quietSink({
    block({ dictionary, timestampMs, values, states }) {
      seen.ticks++;
      check(inBounds(timestampMs), `time ${timestampMs}`);
      check(values.length === dictionary.series.length && states.length === values.length, 'shape');
      check(states.every((state) => state < SLOT_STATES) && !values.some(Number.isNaN), 'values');
      return outcome();
    },
    span({ dictionary, ticks, timestamps, values, states }) {
      seen.ticks += ticks;
      const cells = ticks * dictionary.series.length;
      check(ticks > 0 && cells <= 500, `${ticks} ticks`);
      check(timestamps.subarray(0, ticks).every(inBounds), 'times');
      check(
        states.subarray(0, cells).every((state) => state < SLOT_STATES),
        'states',
      );
      check(!values.subarray(0, cells).some(Number.isNaN), 'values');
      return outcome();
    },
    event(_, { type, text, attributes, gpu, gpuUuid, timestampMs }) {
      seen.events++;
      check(type.length <= 64 && gpu.length <= 64 && gpuUuid.length <= 128 && text.length <= 4096, 'event');
      check(Object.keys(attributes).length <= 16, 'attributes');
      check(isCalendarTime(timestampMs), 'event time');
      return outcome();
    },
    loss(_, identity, { detail, reason, fromMs, toMs, samples }) {
      seen.events++;
      check(identity.length < 100 && detail.length <= 1024 && reason.length <= 64, 'loss');
      check([fromMs, toMs].every(isCalendarTime) && Number.isSafeInteger(samples), 'loss numbers');
      return outcome();
    },
  });
}

/** A stream that gets somewhere: nearly always a proper Hello, mostly the dictionaries too. */
function openings(fuzz: Fuzz): readonly Uint8Array[] {
  if (fuzz.chance(0.02)) return [];
  return fuzz.chance(0.9) ? [HELLO, ...DEFINED] : [HELLO];
}

function helloOf() {
  const runs = [{ id: new Uint8Array(16) }, { id: new Uint8Array(16) }];
  return { protocolVersion: 1, cluster: 'c', node: 'n', machineId: 'm', runs };
}

function record(sequence: bigint | number, body: object, lane: Lane, run = 0): Message {
  const value = { run, sequence: BigInt(sequence), lane, body: body as never };
  return create(StreamRequestSchema, { message: { case: 'record', value } }).message;
}

const NUMBERS = [0, 1, 2, 3, 4, 7, 1000, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const WIDE = [0n, 1n, 2n, 100n, BigInt(NOW), 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n];
const SIGNED = [...WIDE, -1n, -(2n ** 63n)];
const UNSIGNED = [...WIDE, 2n ** 64n - 1n];
const TEXTS = ['', 'a', 'node', 'xid', 'é\0', 'x'.repeat(300), 'y'.repeat(6000)];

function oddMessage(fuzz: Fuzz, frames: readonly (readonly Uint8Array[])[]): Message {
  const dice = fuzz.random();
  if (dice < 0.02)
    return create(StreamRequestSchema, { message: { case: 'hello', value: oddHello(fuzz) } }).message;
  if (dice < 0.05) {
    const value = {
      oldestUndurableUnixMs: fuzz.pick(SIGNED),
      pendingRecords: fuzz.pick(UNSIGNED),
      samplesPerSecond: fuzz.pick([0, -1, Number.NaN, Number.POSITIVE_INFINITY]),
    };
    return create(StreamRequestSchema, { message: { case: 'status', value } }).message;
  }
  const lane = fuzz.pick([Lane.LIVE, Lane.LIVE, Lane.BACKFILL, Lane.UNSPECIFIED, 9 as Lane]);
  const sequence = fuzz.chance(0.8) ? BigInt(1 + fuzz.below(200)) : fuzz.pick(UNSIGNED);
  return record(
    sequence,
    oddBody(fuzz, frames),
    lane,
    fuzz.chance(0.98) ? fuzz.below(2) : fuzz.pick(NUMBERS),
  );
}

function oddHello(fuzz: Fuzz) {
  return {
    ...helloOf(),
    protocolVersion: fuzz.pick(NUMBERS),
    node: fuzz.pick(TEXTS),
    wallTimeUnixMs: fuzz.pick(SIGNED),
    runs: Array.from({ length: fuzz.below(4) }, () => ({
      id: fuzz.noise(20),
      lastSequence: fuzz.pick(UNSIGNED),
    })),
    externalLabels: { [fuzz.pick(TEXTS)]: fuzz.pick(TEXTS) },
  };
}

function oddBody(fuzz: Fuzz, frames: readonly (readonly Uint8Array[])[]): object {
  const which = fuzz.below(dictionaries.length);
  const of = frames[which]!;
  const frame = (): Uint8Array => (fuzz.chance(0.7) ? fuzz.pick(of) : fuzz.mutate(of));
  const dictionary = fuzz.chance(0.97) ? which + 1 : fuzz.pick(NUMBERS);
  switch (fuzz.below(8)) {
    case 0:
    case 1:
      return { case: 'tick', value: { dictionary, frame: fuzz.chance(0.8) ? of[0]! : frame() } };
    case 2:
    case 3:
    case 4: {
      const count = fuzz.chance(0.95) ? 1 + fuzz.below(20) : fuzz.pick([0, 600, 601]);
      const wrong = fuzz.chance(0.05) ? fuzz.below(3) - 1 : 0;
      const gaps = Array.from({ length: Math.max(0, count - 1 + wrong) }, () =>
        fuzz.chance(0.9) ? 1 : fuzz.pick(NUMBERS),
      );
      return { case: 'ticks', value: { dictionary, gaps, frames: Array.from({ length: count }, frame) } };
    }
    case 5: {
      const entries = Array.from({ length: fuzz.below(20) }, (_, i) => [`k${i}`, fuzz.pick(TEXTS)]);
      const [type, text, gpu] = [fuzz.pick(TEXTS), fuzz.pick(TEXTS), fuzz.pick(TEXTS)];
      const value = {
        type,
        text,
        gpu,
        timeUnixMs: fuzz.pick(SIGNED),
        attributes: Object.fromEntries(entries),
      };
      return { case: 'event', value };
    }
    case 6: {
      const [fromUnixMs, toUnixMs, samples] = [fuzz.pick(SIGNED), fuzz.pick(SIGNED), fuzz.pick(UNSIGNED)];
      return {
        case: 'loss',
        value: { fromUnixMs, toUnixMs, samples, reason: fuzz.pick(TEXTS), detail: fuzz.pick(TEXTS) },
      };
    }
    default: {
      const wire = dictionaryToWire(dictionaries[which]!, fuzz.chance(0.5) ? which + 1 : fuzz.pick(NUMBERS));
      if (fuzz.chance(0.3)) wire.symbols[fuzz.below(wire.symbols.length)] = fuzz.pick(TEXTS);
      if (fuzz.chance(0.2)) wire.hash = fuzz.pick(UNSIGNED);
      return { case: 'dictionary', value: wire };
    }
  }
}

/** A keyframe, differences behind it, and times that the store does not take. */
function framesOf(fuzz: Fuzz, dictionary: (typeof dictionaries)[number]): Uint8Array[] {
  const encoder = new FrameEncoder(dictionary);
  const slots = dictionary.series.length;
  return Array.from({ length: 12 }, (_, tick) => {
    const values = Float64Array.from({ length: slots }, () => fuzz.below(1000) / 10);
    const states = Uint8Array.from({ length: slots }, () =>
      fuzz.chance(0.9) ? 0 : ALL_STATES[fuzz.below(ALL_STATES.length)]!,
    );
    const timestampMs = tick === 10 ? 5 : tick === 11 ? 2 ** 50 : NOW + tick * 1000;
    return encoder.encode({ timestampMs, values, states }, tick % 5 === 0).slice();
  });
}
