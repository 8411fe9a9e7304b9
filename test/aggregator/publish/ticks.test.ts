import { expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { toSubject } from '../../../aggregator/alerts/bus/subject.ts';
import { Publishing, type PublishingOptions } from '../../../aggregator/publish/publishing.ts';
import type { Headers, Stream } from '../../../aggregator/publish/stream.ts';
import { until } from '../../support/wait.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  START_MS,
  series,
} from '../alerts/block-of.ts';
import { countOf, settingsOf } from './nats-publishing.ts';

interface Taken {
  readonly subject: string;
  readonly body: Uint8Array | string;
  readonly head: Headers;
}

class Taking implements Stream {
  readonly taken: Taken[] = [];

  async publish(subject: string, body: Uint8Array | string, head: Headers): Promise<void> {
    this.taken.push({ subject, body, head });
  }

  of(kind: string): Taken[] {
    return this.taken.filter(({ subject }) => subject.startsWith(`gpufleet.${kind}.`));
  }
}

function publishingOf(
  settings: Parameters<typeof settingsOf>[0]['ticks'],
  more: Partial<PublishingOptions> = {},
) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const publishing = new Publishing({
    settings: settingsOf({ ticks: settings }),
    ...{ replicas: 1, toSubject, clock, registry },
    ...more,
  });
  const stream = new Taking();
  publishing.begin(stream);
  return { publishing, stream, clock, registry };
}

const node = (name: string): Source => ({ ...SOURCE, node: name });
const DICTIONARY = dictionaryOf([
  series('gpu_temperature_celsius', gpuLabels(0)),
  series('gpu_power_watts', gpuLabels(0)),
  series('gpu_temperature_celsius', gpuLabels(1)),
  series('up', [['source', 'nvml']]),
]);
const block = (
  values: readonly (number | undefined)[] = [40, 300, 41, 1],
  more: Partial<Block> = {},
): Block => blockOf(DICTIONARY, START_MS, values, more);

it('nothing is published of ticks where nobody has asked for it', () => {
  const { publishing, stream } = publishingOf({});
  publishing.tick(block());
  expect(stream.taken).toEqual([]);
  expect(publishing.streams.map(({ settings }) => settings.name)).toEqual(['GPUFLEET_REJECTED']);
});

it('backlog is not published: a consumer of the present is not flooded after an outage', () => {
  const { publishing, stream } = publishingOf({ enabled: true, enriched: true });
  publishing.tick(block(undefined, { live: false }));
  expect(stream.taken).toEqual([]);
});

it('filters choose nodes, groups and metrics, and the frame then names a dictionary of its own', () => {
  const { publishing, stream } = publishingOf({
    ...{ enabled: true, enriched: true },
    nodes: ['a*'],
    groups: ['te*t'],
    metrics: ['gpu_temperature_*'],
  });
  const other = { ...DICTIONARY, group: 'other' };
  publishing.tick(block([40, 300, 41, 1], { source: node('a1') }));
  publishing.tick(block([50, 301, 51, 1], { source: node('b1') }));
  publishing.tick(block([60, 302, 61, 1], { source: node('a1'), dictionary: other }));
  publishing.tick(block([70, 303, undefined, 1], { source: node('a2') }));
  const ticks = stream.of('ticks');
  expect(ticks.map(({ subject }) => subject)).toEqual([
    'gpufleet.ticks.east.a1.test',
    'gpufleet.ticks.east.a2.test',
  ]);
  const wanted = dictionaryOf([DICTIONARY.series[0]!, DICTIONARY.series[2]!]);
  expect(ticks[0]!.head).toEqual({ 'Gpufleet-Dictionary': wanted.hash.toString(16).padStart(16, '0') });
  const decoder = new FrameDecoder(wanted);
  const values = ticks.map(({ body }) => {
    decoder.decode(body as Uint8Array);
    return Array.from(decoder.values, (value, i) => (decoder.states[i] === 0 ? value : undefined));
  });
  expect(values).toEqual([
    [40, 41],
    [70, undefined],
  ]);
  expect(JSON.parse(stream.of('enriched')[0]!.body as string)).toMatchObject({
    series: [{ values: { gpu_temperature_celsius: 40 } }, { values: { gpu_temperature_celsius: 41 } }],
  });
});

it('a dictionary goes before its first tick, again after an hour and to each new connection, and not more often', () => {
  const { publishing, stream, clock } = publishingOf({ enabled: true });
  const dictionaries = () => stream.of('dictionaries').length;
  publishing.tick(block());
  expect(stream.taken.map(({ subject }) => subject.split('.')[1])).toEqual(['dictionaries', 'ticks']);
  for (let i = 0; i < 10; i++) publishing.tick(block());
  expect(dictionaries()).toBe(1);
  clock.ms += 3_600_000;
  publishing.tick(block());
  publishing.tick(block());
  expect(dictionaries()).toBe(2);
  publishing.end();
  publishing.begin(stream);
  publishing.tick(block());
  publishing.tick(block());
  expect(dictionaries()).toBe(3);
});

// Lost without it: thousands of nodes that connect at once stall everybody's ticks while their dictionaries are made.
it('no more dictionaries are laid out in a second than a tenth of a core makes, and all come in the end', async () => {
  const { publishing, stream, clock } = publishingOf({ enabled: true });
  const blocks = Array.from({ length: 250 }, (_, i) =>
    blockOf(dictionaryOf([series('up', [['source', `s${i}`]])]), START_MS, [1], { source: node(`n${i}`) }),
  );
  const counts: number[] = [];
  for (let second = 0; second < 3; second++) {
    for (const one of blocks) publishing.tick(one);
    await until(() => publishing.waitingBytes === 0, { timeoutMs: 10_000, what: 'all went out' });
    clock.ms += 1_000;
    counts.push(new Set(stream.of('dictionaries').map(({ subject }) => subject)).size);
  }
  expect(counts).toEqual([100, 200, 250]);
});

it('an enriched tick says it all: labels once for each set, context of node and GPU, no value where there is none', () => {
  const context: PublishingOptions['context'] = (_source, gpu, uuid) => {
    if (gpu === '' && uuid === '') return { rack: 'r7', site: 'oslo' };
    return uuid === 'GPU-0' ? { serial: '1654' } : undefined;
  };
  const { publishing, stream } = publishingOf({ enriched: true }, { context });
  publishing.tick(block([40.5, Number.POSITIVE_INFINITY, undefined, 1]));
  const [message] = stream.of('enriched');
  expect(message!.subject).toBe('gpufleet.enriched.east.gpu-07%2Erack3.test');
  expect(JSON.parse(message!.body as string)).toEqual({
    cluster: 'east',
    node: 'gpu-07.rack3',
    external_labels: {},
    asset: { rack: 'r7', site: 'oslo' },
    source: 'test',
    interval_ms: 1000,
    time: '2026-01-01T00:00:00.000Z',
    series: [
      {
        labels: { gpu: '0', model: 'NVIDIA H100 80GB HBM3', uuid: 'GPU-0' },
        asset: { serial: '1654' },
        values: { gpu_temperature_celsius: 40.5, gpu_power_watts: 'Infinity' },
      },
      { labels: { source: 'nvml' }, values: { up: 1 } },
    ],
  });
});

it('a tick too large for one message is several, each complete and below what a server takes', () => {
  const { publishing, stream } = publishingOf({ enriched: true });
  const text = 'x'.repeat(900);
  const wide = dictionaryOf(Array.from({ length: 3_000 }, (_, i) => series('m', [['id', `${text}${i}`]])));
  publishing.tick(blockOf(wide, START_MS, new Array<number>(3_000).fill(7)));
  const parts = stream.of('enriched').map(({ body }) => body as string);
  expect(parts.length).toBeGreaterThan(4);
  for (const part of parts) expect(part.length).toBeLessThan(600_000);
  const all = parts.flatMap((part) => (JSON.parse(part) as { series: unknown[] }).series);
  expect(all).toHaveLength(3_000);
});

it('a tick that no frame can hold is dropped and counted; the next one goes out', async () => {
  const { publishing, stream, registry } = publishingOf({ enabled: true });
  publishing.tick(block([Number.NaN, 1, 1, 1]));
  publishing.tick(block());
  expect(stream.of('ticks')).toHaveLength(1);
  expect(await countOf(registry, 'gpufleet_publish_dropped_total', { reason: 'unencodable' })).toBe(1);
});

it('asset context that fails costs its tick, and not the stream of the agent', async () => {
  const context = () => {
    throw new Error('no book');
  };
  const { publishing, stream, registry } = publishingOf({ enabled: true, enriched: true }, { context });
  publishing.tick(block());
  expect(stream.of('ticks')).toHaveLength(1);
  expect(stream.of('enriched')).toHaveLength(0);
  expect(await countOf(registry, 'gpufleet_publish_dropped_total', { stream: 'enriched' })).toBe(1);
});

it('streams of one shape share an encoder without sharing a value', () => {
  const { publishing, stream } = publishingOf({ enabled: true });
  const twin = dictionaryOf(DICTIONARY.series.map((one) => ({ ...one, labels: [['gpu', '9']] })));
  publishing.tick(block([1, 2, 3, 4]));
  publishing.tick(blockOf(twin, START_MS + 5, [5, undefined, 7, 8]));
  publishing.tick(block([9, 10, 11, 12]));
  const decoded = stream.of('ticks').map(({ body }) => {
    const decoder = new FrameDecoder(DICTIONARY);
    decoder.decode(body as Uint8Array);
    return Array.from(decoder.values, (value, i) => (decoder.states[i] === 0 ? value : undefined));
  });
  expect(decoded).toEqual([
    [1, 2, 3, 4],
    [5, undefined, 7, 8],
    [9, 10, 11, 12],
  ]);
});
