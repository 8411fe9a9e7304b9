import { create } from '@bufbuild/protobuf';
import {
  DictionarySchema,
  type Dictionary as WireDictionary,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import {
  createDictionary,
  dictionaryFromWire,
  dictionaryToWire,
  MAX_DICTIONARY_SERIES,
  seriesFault,
} from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import {
  encodeEvent,
  hashBytes,
  openRecord,
  RecordKind,
  sealRecord,
  splitTick,
} from '#shared/wire/record.ts';
import { openSegment, openSegmentFrom, SegmentBuilder, segmentLength } from '#shared/wire/segment.ts';
import { Fuzz, shortStacks } from '../../support/fuzz.ts';
import { expectFleetError } from './expect-fleet-error.ts';

const dictionary = createDictionary(
  'fuzz',
  1000,
  Array.from({ length: 12 }, (_, i) => ({
    name: `m_${i}`,
    labels: [
      ['gpu', String(i)],
      ['uuid', `GPU-${i}`],
    ] as const,
    kind: 'gauge',
    decimals: 0,
    help: 'help',
    unit: 'W',
  })),
);

/**
 * Damages sealed records and their keys; returns how many were opened all the same, which must be those that nothing
 * was done to.
 */
export function fuzzRecords(seed: number, inputs: number): { opened: number; intact: number } {
  using _ = shortStacks();
  const fuzz = new Fuzz(seed);
  const frame = new FrameEncoder(dictionary)
    .encode({
      timestampMs: 1_780_000_000_000,
      values: Float64Array.from({ length: 12 }, (_, i) => i),
      states: new Uint8Array(12),
    })
    .slice();
  const event = encodeEvent({
    type: 'xid',
    timestampMs: 1,
    gpu: '0',
    gpuUuid: 'G',
    text: 't',
    attributes: {},
  });
  const key = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7);
  const seeds = [
    sealRecord(key, RecordKind.Tick, hashBytes(dictionary.hash), frame),
    sealRecord(key, RecordKind.Event, event),
    sealRecord(key, RecordKind.Tick, new Uint8Array(3)),
  ];
  let opened = 0;
  let intact = 0;
  for (let input = 0; input < inputs; input++) {
    const bytes = fuzz.chance(0.1) ? fuzz.noise(60) : fuzz.mutate(seeds);
    const under = fuzz.chance(0.1) ? fuzz.mutate([key]) : key;
    if (Buffer.compare(key, under) === 0 && seeds.some((one) => one.equals(bytes))) intact++;
    try {
      const { kind, body } = openRecord(under, bytes);
      opened++;
      if (kind === RecordKind.Tick) splitTick(body);
    } catch (error) {
      expectFleetError(error, 'data_loss');
    }
  }
  return { opened, intact };
}

/** Feeds damaged segments, as they would be behind a checksum that does not see it; returns how many were read. */
export function fuzzSegments(seed: number, inputs: number): number {
  using _ = shortStacks();
  const fuzz = new Fuzz(seed);
  const encoder = new FrameEncoder(dictionary);
  const builder = new SegmentBuilder(() => dictionary);
  for (let tick = 0; tick < 12; tick++) {
    const values = Float64Array.from({ length: 12 }, () => fuzz.below(100));
    const time = { timestampMs: 1_780_000_000_000 + tick * 1000, values, states: new Uint8Array(12) };
    builder.add(RecordKind.Tick, Buffer.concat([hashBytes(dictionary.hash), encoder.encode(time, true)]));
    if (tick % 4 === 0) builder.add(RecordKind.Event, fuzz.noise(20));
  }
  const seeds = [builder.finish()];
  let read = 0;
  for (let input = 0; input < inputs; input++) {
    const bytes = fuzz.chance(0.1) ? fuzz.noise(60) : fuzz.mutate(seeds);
    try {
      segmentLength(bytes);
      const all = openSegment(bytes);
      const rest = openSegmentFrom(bytes, 3, () => dictionary);
      if (rest.length !== Math.max(0, all.length - 3)) throw new Error(`${rest.length} of ${all.length}`);
      read++;
    } catch (error) {
      expectFleetError(error, 'invalid_input', 'data_loss');
    }
  }
  return read;
}

/** Feeds odd dictionaries; returns how many were read. Those keep every limit that a dictionary has. */
export function fuzzDictionaries(seed: number, inputs: number): number {
  using _ = shortStacks();
  const fuzz = new Fuzz(seed);
  let read = 0;
  for (let input = 0; input < inputs; input++) {
    const wire = oddDictionary(fuzz);
    try {
      const { series } = dictionaryFromWire(wire);
      read++;
      if (series.length > MAX_DICTIONARY_SERIES || series.length !== wire.series.length)
        throw new Error('series');
      for (const one of series) {
        const fault = seriesFault(one);
        if (fault !== undefined) throw new Error(fault);
      }
    } catch (error) {
      expectFleetError(error, 'invalid_input', 'resource_exhausted');
    }
  }
  return read;
}

const ODD_NUMBERS = [0, 1, 2, 3, 5, 1000, 2 ** 31, 2 ** 32 - 1];
const ODD_STRINGS = [
  '',
  'a',
  'node',
  '__name__',
  'cluster',
  'm:x',
  '9',
  'é',
  '\0',
  '\ud800',
  'x'.repeat(2000),
];

/** A valid dictionary with one to three things wrong, or none. */
function oddDictionary(fuzz: Fuzz): WireDictionary {
  const wire = create(DictionarySchema, dictionaryToWire(dictionary, 1));
  for (let edits = fuzz.below(4); edits > 0; edits--) {
    const one = fuzz.pick(wire.series);
    const at = fuzz.below(wire.symbols.length);
    switch (fuzz.below(9)) {
      case 0:
        wire.symbols[at] = fuzz.pick(ODD_STRINGS);
        break;
      case 1:
        wire.symbols.splice(at, fuzz.below(3));
        break;
      case 2:
        one.labels[fuzz.below(5)] = fuzz.pick(ODD_NUMBERS);
        break;
      case 3:
        one.labels = Array.from({ length: fuzz.below(60) }, () => fuzz.below(wire.symbols.length + 1));
        break;
      case 4:
        one.name = fuzz.pick(ODD_NUMBERS);
        break;
      case 5:
        one.decimals = fuzz.pick([-16, -15, 15, 16, -(2 ** 31), 2 ** 31 - 1]);
        break;
      case 6:
        one.kind = fuzz.pick(ODD_NUMBERS) as typeof one.kind;
        break;
      case 7:
        wire.hash = BigInt(fuzz.pick(ODD_NUMBERS));
        break;
      default:
        wire.group = fuzz.pick(ODD_STRINGS);
        wire.intervalMs = fuzz.pick(ODD_NUMBERS);
    }
  }
  return wire;
}
