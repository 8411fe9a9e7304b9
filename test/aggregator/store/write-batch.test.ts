import { uncompressSync } from 'snappy';
import { expect, test } from 'vitest';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { Dictionary, Labels } from '#shared/model/dictionary.ts';
import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { storedLabels } from '../../../aggregator/store/series-template.ts';
import { decodeSeries, seriesStarts } from '../../../aggregator/store/time-series.ts';
import { MAX_BATCH_BYTES, SpanCursor, WriteBatch } from '../../../aggregator/store/write-batch.ts';
import { seededRandom } from '../../support/random.ts';
import { decodeWriteRequest, type ReceivedSample } from '../../support/remote-write-receiver.ts';

const ALL_STATES = [...SLOT_STATE_NAMES.keys()];

const START_MS = 1_780_000_000_000;

/** Dictionaries of every shape that matters: many GPUs, few labels, very long ones, names that begin alike. */
function randomDictionary(random: () => number): { dictionary: Dictionary; source: Source } {
  const pick = (most: number): number => Math.floor(random() * most);
  const text = (most: number): string =>
    'x'.repeat(pick(3)) +
    pick(1e9)
      .toString(36)
      .repeat(1 + pick(most));
  const gpus = 1 + pick(4);
  const longest = random() < 0.15 ? 400 : 6;
  const series = Array.from({ length: 1 + pick(60) }, (_, i) => {
    const gpu = pick(gpus);
    const labels: Labels = [
      ['UUID', `GPU-${gpu}${'-abcdef'.repeat(3)}`],
      ['gpu', String(gpu)],
      ...(random() < 0.4 ? [['zone', text(longest)] as const] : []),
    ];
    return { name: `gpu_${text(3)}_${i}`, labels, kind: 'gauge', decimals: 0, help: '', unit: '' } as const;
  });
  const source = {
    cluster: 'c',
    node: `node-${pick(99)}`,
    externalLabels: [['rack', text(longest)]] as Labels,
  };
  return { dictionary: createDictionary('g', 1000, series), source };
}

function randomSpan(random: () => number, ticks: number, holes: number): BlockSpan {
  const { dictionary, source } = randomDictionary(random);
  const cells = ticks * dictionary.series.length;
  const odd = [0, -0, 0, Number.POSITIVE_INFINITY, 5e-324, -1.5, 1e300];
  const values = new Float64Array(cells + 7);
  const states = new Uint8Array(cells + 7);
  const gone = Uint8Array.from(dictionary.series, () => (random() < holes ? 1 : 0));
  for (let cell = 0; cell < cells; cell++) {
    const slot = cell % dictionary.series.length;
    values[cell] = random() < 0.4 ? odd[Math.floor(random() * odd.length)]! : random() * 1e6;
    if (gone[slot]) states[cell] = SlotState.Absent;
    else if (random() < holes / 4) states[cell] = ALL_STATES[Math.floor(random() * ALL_STATES.length)]!;
  }
  const timestamps = new Float64Array(ticks + 3).map(
    (_, t) => START_MS + t * 1000 + Math.floor(random() * 9),
  );
  return { source, dictionary, ticks, timestamps, values, states };
}

/** What a reader of the specification must find, one line for each sample. */
function expectedOf(span: BlockSpan): string[] {
  const slots = span.dictionary.series.length;
  const lines: string[] = [];
  span.dictionary.series.forEach((series, slot) => {
    const labels = JSON.stringify(storedLabels(series, span.source));
    for (let t = 0; t < span.ticks; t++) {
      const state = span.states[t * slots + slot]!;
      if (state !== SlotState.Present && state !== SlotState.Stale) continue;
      const bits = Buffer.alloc(8);
      bits.writeDoubleBE(span.values[t * slots + slot]!);
      lines.push(
        `${labels} ${state === SlotState.Stale ? '7ff0000000000002' : bits.toString('hex')} ${span.timestamps[t]}`,
      );
    }
  });
  return lines.sort();
}

function linesOf(samples: readonly ReceivedSample[]): string[] {
  return samples
    .map(({ pairs, bits, timestampMs }) => `${JSON.stringify(pairs)} ${bits} ${timestampMs}`)
    .sort();
}

function decode(batch: WriteBatch): ReceivedSample[] {
  return decodeWriteRequest(uncompressSync(batch.body) as Buffer);
}

function rowOf(span: BlockSpan, t: number): Block {
  const slots = span.dictionary.series.length;
  return {
    source: span.source,
    dictionary: span.dictionary,
    timestampMs: span.timestamps[t]!,
    values: span.values.slice(t * slots, (t + 1) * slots),
    states: span.states.slice(t * slots, (t + 1) * slots),
    live: true,
  };
}

// Lost without it: values in the store that nobody measured, or samples of one GPU under another's name.
test('live blocks of any dictionary arrive to the bit, whatever is absent or ended, also after the chain is fitted', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed);
    const span = randomSpan(random, 8, [0, 0.1, 0.6][seed % 3]!);
    const batch = new WriteBatch();
    for (let t = 0; t < span.ticks; t++) {
      const block = rowOf(span, t);
      expect(batch.append(block, 0)).toBe(span.dictionary.series.length);
    }
    expect(linesOf(decode(batch)), `seed ${seed}`).toEqual(expectedOf(span));
    expect(batch.samples).toBe(expectedOf(span).length);
  }
});

// Lost without it: backlog, whenever a field of a GPU is missing now and then.
test('spans of any dictionary arrive to the bit, one label set with its samples in time order', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(1000 + seed);
    const span = randomSpan(random, 1 + Math.floor(random() * 40), [0, 0.05, 0.5][seed % 3]!);
    const batch = new WriteBatch();
    const cursor = new SpanCursor(span);
    batch.appendSpan(cursor);
    expect(cursor.done).toBe(true);
    const samples = decode(batch);
    expect(linesOf(samples), `seed ${seed}`).toEqual(expectedOf(span));
    const raw = uncompressSync(batch.body) as Buffer;
    expect(seriesStarts(raw).length - 1).toBe(
      new Set(samples.map(({ pairs }) => JSON.stringify(pairs))).size,
    );
    const inOrder = samples.every(
      ({ pairs, timestampMs }, i) =>
        i === 0 || samples[i - 1]!.pairs[1]![1] !== pairs[1]![1] || samples[i - 1]!.timestampMs < timestampMs,
    );
    expect(inOrder).toBe(true);
  }
});

// Lost without it: the end of a long backlog message, or a request that the store refuses for its size.
test('a span larger than a request goes on in the next ones, in the middle of a series where need be', () => {
  for (const maxSamples of [1, 7, 100, 10_000]) {
    const span = randomSpan(seededRandom(7), 120, 0.05);
    const cursor = new SpanCursor(span);
    const batch = new WriteBatch();
    const all: ReceivedSample[] = [];
    while (!cursor.done) {
      batch.clear(maxSamples);
      batch.appendSpan(cursor);
      expect(batch.samples).toBeLessThanOrEqual(maxSamples);
      if (batch.samples > 0) all.push(...decode(batch));
    }
    expect(linesOf(all)).toEqual(expectedOf(span));
  }
});

// Lost without it: a day of one series. Its samples reach further back than a copy does.
test('series with thousands of samples are written, too long to refer to each other', () => {
  const span = randomSpan(seededRandom(21), 4_000, 0);
  const cursor = new SpanCursor(span);
  const batch = new WriteBatch();
  const all: ReceivedSample[] = [];
  while (!cursor.done) {
    batch.clear();
    batch.appendSpan(cursor);
    expect(batch.samples).toBeLessThanOrEqual(10_000);
    expect((uncompressSync(batch.body) as Buffer).length).toBeLessThan(MAX_BATCH_BYTES + 2 ** 17);
    all.push(...decode(batch));
  }
  expect(all.length).toBe(expectedOf(span).length);
  expect(linesOf(all)).toEqual(expectedOf(span));
});

// Lost without it: nothing, but a third of the machine: each absent field would cost a full set of labels for ever.
test('fields that are absent for good cost no bytes once the chain is fitted', () => {
  const random = seededRandom(5);
  const span = randomSpan(random, 4, 0);
  const slots = span.dictionary.series.length;
  for (let cell = 0; cell < span.ticks * slots; cell++)
    span.states[cell] = (cell % slots) % 2 === 0 ? SlotState.Present : SlotState.Absent;
  const sizes = Array.from({ length: span.ticks }, (_, t) => {
    const batch = new WriteBatch();
    batch.append(rowOf(span, t), 0);
    return batch.byteLength;
  });
  expect(sizes.at(-1)).toBeLessThan(sizes[0]! * 0.75);
});

test('what was written can be read back for a dead letter', () => {
  const span = randomSpan(seededRandom(9), 3, 0);
  const batch = new WriteBatch();
  batch.appendSpan(new SpanCursor(span));
  const raw = uncompressSync(batch.body) as Buffer;
  const starts = seriesStarts(raw);
  const decoded = starts.slice(0, -1).map((start, i) => decodeSeries(raw.subarray(start, starts[i + 1])));
  expect(decoded.flatMap(({ samples }) => samples).length).toBe(batch.samples);
  expect(decoded.map(({ labels }) => JSON.stringify(labels)).sort()).toEqual(
    span.dictionary.series.map((series) => JSON.stringify(storedLabels(series, span.source))).sort(),
  );
});
