import { describe, expect, test } from 'vitest';
import { counter, createRegistry } from '#shared/instruments/registry.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { canonicalSeries } from '../../../agent/collect/canonical-series.ts';
import { createSimulatedCollector } from '../../../agent/collect/simulated/collector.ts';
import { renderMetrics } from '../../../agent/expose/exposition.ts';
import { formatFor } from '../../../agent/expose/negotiate.ts';
import { slotCounts, sourceMetrics } from '../../../agent/expose/source-metrics.ts';
import { parsePage } from '../../support/exposition-parser.ts';

const identity = [
  ['cluster', 'c'],
  ['node', 'n'],
] as const;

function tickOf(group: string, series: readonly Series[], values: readonly number[]): Tick {
  const dictionary = createDictionary(group, 1000, series);
  return {
    dictionary,
    timestampMs: 1,
    values: Float64Array.from(values),
    states: new Uint8Array(values.length),
  };
}

const own = (name: string, kind: Series['kind'] = 'gauge', help = ''): Series => ({
  name,
  labels: [['source', 's']],
  kind,
  decimals: 0,
  help,
  unit: '',
});

describe.each(['text', 'openmetrics'] as const)('%s', (format) => {
  // Lost without it: Prometheus refuses the whole page, and the node looks dead.
  test('two sources and two nodes that give the same names make one family of each', async () => {
    const power = (uuid: string) => canonicalSeries('gpu_power_watts', { gpu: '0', uuid });
    const up = (source: string) => canonicalSeries('up', { source });
    const energy = canonicalSeries('gpu_energy_joules_total', { gpu: '0', uuid: 'a' });
    const text = await renderMetrics(
      [
        {
          identity,
          ticks: [tickOf('a', [up('a'), power('a'), energy], [1, 300.5, 7]), tickOf('b', [up('b')], [0])],
        },
        { identity: [['node', 'm']], ticks: [tickOf('a', [up('a'), power('b')], [1, 400])] },
      ],
      undefined,
      format,
    );
    const page = parsePage(text, format);
    expect(page.get('up')!.samples.map(({ labels }) => `${labels.node} ${labels.source}`)).toEqual([
      'n a',
      'n b',
      'm a',
    ]);
    expect(page.get('gpu_power_watts')).toMatchObject({
      type: 'gauge',
      unit: format === 'text' ? '' : 'watts',
    });
    const name = format === 'text' ? 'gpu_energy_joules_total' : 'gpu_energy_joules';
    expect(page.get(name)).toMatchObject({ type: 'counter', unit: format === 'text' ? '' : 'joules' });
    expect(page.get(name)!.samples).toEqual([
      { name: 'gpu_energy_joules_total', labels: { cluster: 'c', node: 'n', gpu: '0', uuid: 'a' }, value: 7 },
    ]);
  });

  test('texts that need escapes come back as they were, and a label of a source beats the same one of the configuration', async () => {
    const nasty = 'a "quoted"\nline \\ and more';
    const series: Series = {
      ...own('x', 'gauge', nasty),
      labels: [
        ['node', 'mine'],
        ['what', nasty],
      ],
    };
    const page = parsePage(
      await renderMetrics([{ identity, ticks: [tickOf('g', [series], [1])] }], undefined, format),
      format,
    );
    expect(page.get('x')).toMatchObject({
      help: nasty,
      samples: [{ labels: { cluster: 'c', node: 'mine', what: nasty } }],
    });
  });

  test('a blank is left out and never a zero; infinities and large counts are numbers of the format', async () => {
    const tick = tickOf(
      'g',
      [own('a'), own('b'), own('c'), own('d')],
      [Number.POSITIVE_INFINITY, 5, 1e21, -0.5],
    );
    tick.states[1] = SlotState.NotSupported;
    const page = parsePage(await renderMetrics([{ identity, ticks: [tick] }], undefined, format), format);
    expect([...page.keys()]).toEqual(['a', 'c', 'd']);
    expect(page.get('a')!.samples[0]!.value).toBe(Number.POSITIVE_INFINITY);
    expect(page.get('c')!.samples[0]!.value).toBe(1e21);
  });

  // Lost without it: a vendor's counter with another name makes the page invalid.
  test('counters that no counter of OpenMetrics may be called are there all the same', async () => {
    const ticks = [
      tickOf(
        'g',
        [own('DCGM_FI_DEV_ENERGY', 'counter'), own('x', 'gauge'), own('x_total', 'counter')],
        [1, 2, 3],
      ),
    ];
    const page = parsePage(await renderMetrics([{ identity, ticks }], undefined, format), format);
    expect([...page.values()].map(({ name, type }) => `${name} ${type}`)).toEqual(
      format === 'text'
        ? ['DCGM_FI_DEV_ENERGY counter', 'x gauge', 'x_total counter']
        : ['DCGM_FI_DEV_ENERGY unknown', 'x gauge', 'x_total unknown'],
    );
  });

  test('a whole simulated node with the metrics of the agent is a valid page, and every metric has help', async () => {
    const clock = { now: () => 1_800_000_000_000, monotonic: () => 1000 };
    await using collector = createSimulatedCollector({
      node: 'n',
      gpus: 2,
      model: 'H100',
      seed: 1,
      intervalMs: 1000,
      clock,
      faults: [],
      faultRate: 0,
    });
    const reading = await collector.collect(new AbortController().signal);
    const registry = createRegistry();
    counter(registry, { name: 'a_failures_total', help: 'By source.', labelNames: ['source'] }).inc({
      source: 's"\\\n',
    });
    const sources = [{ name: 's', state: 'failing', lastReadMs: 0 }];
    sourceMetrics(registry, () => ({ ticks: [reading], sources, pausedUntil: 61_000, nowMs: 1_000 }));
    const page = parsePage(await renderMetrics([{ identity, ticks: [reading] }], registry, format), format);
    expect(page.size).toBeGreaterThan(30);
    for (const { name, help } of page.values()) expect(help, name).not.toBe('');
    expect(page.get('gpufleet_agent_slots')!.samples[0]!.labels).toEqual({
      source: 'simulated',
      state: 'present',
    });
    expect(page.get('gpufleet_agent_source_up')!.samples[0]!.value).toBe(0);
    expect(page.get('gpufleet_agent_pause_remaining_seconds')!.samples[0]!.value).toBe(60);
  });
});

test('slots are counted by the reason why they have no value', () => {
  const { Present, GpuLost, NoPermission } = SlotState;
  expect([...slotCounts(Uint8Array.of(Present, GpuLost, NoPermission, GpuLost))]).toEqual([
    ['present', 1],
    ['gpu_lost', 2],
    ['no_permission', 1],
  ]);
  expect([...slotCounts(new Uint8Array(0))]).toEqual([['present', 0]]);
});

// Lost without it: a scraper that asks for one format gets the other and drops the page.
test.each([
  [undefined, 'text'],
  ['*/*', 'text'],
  ['text/html,application/xhtml+xml;q=0.9,*/*;q=0.8', 'text'],
  ['application/openmetrics-text', 'openmetrics'],
  [
    'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1',
    'openmetrics',
  ],
  ['text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.2', 'text'],
  ['application/openmetrics-text;version=2.0.0', 'text'],
  ['application/openmetrics-text;q=0', 'text'],
  ['application/openmetrics-text;q=banana,text/plain;q=0.1', 'text'],
] as const)('Accept: %s gets %s', (accept, format) => {
  expect(formatFor(accept)).toBe(format);
});

test.each([
  ['a 1', 'no line feed'],
  ['a 1\n', 'outside its family'],
  ['# TYPE a gauge\na 1\na 2\n', 'series twice'],
  ['# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na{x="1"} 1\n', 'two pieces'],
  ['# TYPE a gauge\na{x="1",x="2"} 1\n', 'label twice'],
  ['# TYPE a gauge\na{x="\\t"} 1\n', 'bad label'],
  ['# TYPE a gauge\na 1 2 3\n', 'bad value'],
  ['# TYPE a gauge\na nope\n', 'bad value'],
])('the parser of these tests is strict: %j', (text, why) => {
  expect(() => parsePage(text, 'text')).toThrow(why);
});
