import { describe, expect, test } from 'vitest';
import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { FrameSummary } from '#shared/wire/frame-summary.ts';
import { hashBytes, openRecord, RecordKind, sealRecord, splitTick } from '#shared/wire/record.ts';
import {
  openSegment,
  openSegmentFrom,
  SegmentBuilder,
  type SegmentEntry,
  segmentLength,
} from '#shared/wire/segment.ts';
import { seededRandom } from '../../support/random.ts';

const KINDS: Kind[] = ['gauge', 'counter', 'info'];
const dictionaryOf = (group: string, slots: number): Dictionary =>
  createDictionary(
    group,
    1000,
    Array.from({ length: slots }, (_, i) => ({
      name: `m_${i}`,
      labels: [],
      kind: KINDS[i % 3]!,
      decimals: i % 4,
      help: '',
      unit: '',
    })),
  );

interface Row {
  readonly dictionary: Dictionary;
  readonly timestampMs: number;
  readonly values: Float64Array;
  readonly states: Uint8Array;
}

/** Values of every sort: exact, not exact, negative zero, infinite, absent. */
function randomRow(dictionary: Dictionary, timestampMs: number, random: () => number): Row {
  const slots = dictionary.series.length;
  const values = Float64Array.from({ length: slots }, () => {
    const what = random();
    if (what < 0.7) return Math.round(random() * 1000);
    if (what < 0.8) return random() * 1e300;
    if (what < 0.9) return -0;
    return Number.NEGATIVE_INFINITY;
  });
  const states = Uint8Array.from({ length: slots }, () =>
    random() < 0.8 ? SlotState.Present : Math.floor(random() * 5),
  );
  return { dictionary, timestampMs, values, states };
}

const DICTIONARIES = [dictionaryOf('a', 9), dictionaryOf('b', 17)];
const byHash = new Map(DICTIONARIES.map((one) => [one.hash, one]));
const find = (hash: bigint) => byHash.get(hash);

function keyframeOf(row: Row): SegmentEntry {
  const frame = new FrameEncoder(row.dictionary).encode(row, true);
  return { kind: RecordKind.Tick, body: Buffer.concat([hashBytes(row.dictionary.hash), frame]) };
}

function rowsOf(entries: readonly SegmentEntry[]): Row[] {
  const decoders = new Map<bigint, FrameDecoder>();
  return entries.flatMap(({ kind, body }) => {
    if (kind !== RecordKind.Tick) return [];
    const { hash, frame } = splitTick(body);
    const decoder = decoders.get(hash) ?? new FrameDecoder(find(hash)!);
    decoders.set(hash, decoder);
    const timestampMs = decoder.decode(frame);
    const { dictionary } = decoder;
    return [{ dictionary, timestampMs, values: decoder.values.slice(), states: decoder.states.slice() }];
  });
}

/** What must come back: the value of a slot that has none is nobody's business. */
const visible = ({ dictionary, timestampMs, values, states }: Row) => [
  dictionary.group,
  timestampMs,
  [...values].map((value, slot) => (states[slot] === SlotState.Present ? value : `state ${states[slot]}`)),
];

function randomSegment(seed: number) {
  const random = seededRandom(seed);
  const builder = new SegmentBuilder(find);
  const rows: Row[] = [];
  const entries: SegmentEntry[] = [];
  for (let i = 0; i < 2 + Math.floor(random() * 20); i++) {
    if (random() < 0.15) {
      entries.push({ kind: RecordKind.Event, body: Buffer.from(`event ${i}`) });
    } else {
      const row = randomRow(DICTIONARIES[Math.floor(random() * 2)]!, 1e12 + i * 1000, random);
      rows.push(row);
      entries.push(keyframeOf(row));
    }
    const { kind, body } = entries.at(-1)!;
    builder.add(kind, body);
  }
  return { rows, entries, body: builder.finish() };
}

// Lost without these: a backlog that was compacted comes back with other values than were recorded.
describe('a segment', () => {
  test('gives back every record bit for bit, in order', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const { rows, entries, body } = randomSegment(seed);
      const opened = openSegment(body);
      expect(segmentLength(body)).toBe(entries.length);
      expect(opened.map(({ kind }) => kind)).toEqual(entries.map(({ kind }) => kind));
      expect(rowsOf(opened).map(visible), `seed ${seed}`).toEqual(rows.map(visible));
    }
  });

  test('can be read from any record on, beginning with keyframes', () => {
    const { entries, rows, body } = randomSegment(7);
    for (let skip = 0; skip < entries.length; skip++) {
      const opened = openSegmentFrom(body, skip, find);
      const ticksBefore = entries.slice(0, skip).filter(({ kind }) => kind === RecordKind.Tick).length;
      expect(rowsOf(opened).map(visible)).toEqual(rows.slice(ticksBefore).map(visible));
    }
  });

  test('times and counts are read without the values', () => {
    const { rows, body } = randomSegment(3);
    const summaries = new Map(DICTIONARIES.map((one) => [one.hash, new FrameSummary(one.series.length)]));
    const seen = openSegment(body).flatMap((entry) => {
      if (entry.kind !== RecordKind.Tick) return [];
      const { hash, frame } = splitTick(entry.body);
      const summary = summaries.get(hash)!;
      summary.read(frame);
      return [[summary.timestampMs, summary.present]];
    });
    const present = ({ states }: Row) => states.filter((state) => state === SlotState.Present).length;
    expect(seen).toEqual(rows.map((row) => [row.timestampMs, present(row)]));
  });

  test('takes no tick that it cannot decode, and is as it was before', () => {
    const builder = new SegmentBuilder(find);
    const row = randomRow(DICTIONARIES[0]!, 1e12, seededRandom(1));
    const tick = keyframeOf(row);
    builder.add(tick.kind, tick.body);
    expect(() => builder.add(RecordKind.Tick, Buffer.alloc(20, 7))).toThrow(/dictionary/);
    expect(() => builder.add(RecordKind.Tick, tick.body.subarray(0, 12))).toThrow();
    builder.add(tick.kind, tick.body);
    expect(rowsOf(openSegment(builder.finish())).map(visible)).toEqual([visible(row), visible(row)]);
  });

  test('that is cut or made up throws, whatever the bytes: one damaged value must not stop the agent', () => {
    const { body } = randomSegment(5);
    for (let length = 0; length < body.length; length++) {
      expect(() => openSegment(body.subarray(0, length))).toThrow();
    }
    const random = seededRandom(11);
    for (let i = 0; i < 2_000; i++) {
      const flipped = Buffer.from(body);
      for (let n = 0; n < 3; n++)
        flipped[Math.floor(random() * flipped.length)]! ^= 1 << Math.floor(random() * 8);
      try {
        expect(openSegment(flipped).length).toBeLessThanOrEqual(65_536);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
    expect(() => openSegment(Buffer.from([0xff, 0xff, 0xff, 0x7f, 0]))).toThrow(/covers/);
  });

  test('is sealed as every record: a flipped byte is seen, and a wrong place', () => {
    const key = Buffer.from('key');
    const record = sealRecord(key, RecordKind.Segment, randomSegment(2).body);
    expect(openRecord(key, record).kind).toBe(RecordKind.Segment);
    expect(() => openRecord(Buffer.from('kez'), record)).toThrow(/checksum/);
    record[record.length - 3]! ^= 16;
    expect(() => openRecord(key, record)).toThrow(/checksum/);
  });
});
