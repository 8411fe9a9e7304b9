import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import {
  type ConnectedPeer,
  LatestTable,
  type LatestTableOptions,
} from '../../../aggregator/store/latest.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, START_MS, series } from '../alerts/block-of.ts';

const POWER = dictionaryOf([0, 1].map((gpu) => series('gpu_power_watts', gpuLabels(gpu))));

function peerOf(node: string, cluster = 'east'): ConnectedPeer {
  const source: Source = { cluster, node, externalLabels: [] };
  return { source, address: '10.0.0.1:5', agentVersion: '1', machineId: 'm', clockSkewSeconds: 0 };
}

function tableOf(options: Partial<LatestTableOptions> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const table = new LatestTable({ clock, registry, ...options });
  const connect = (node: string, cluster?: string): Source => {
    const peer = peerOf(node, cluster);
    table.connected(peer);
    return peer.source;
  };
  const refused = async (what: string): Promise<number> => {
    const metric = await registry.getSingleMetric('gpufleet_latest_refused_total')!.get();
    return metric.values.find(({ labels }) => labels.what === what)?.value ?? 0;
  };
  return { table, clock, registry, connect, refused };
}

const valuesOf = (table: LatestTable, node: string) =>
  table.node(node)!.groups.map(({ values }) => [...values]);

// What the table shows is what people decide by: an old value under a new time would be a lie.
test('the newest live tick wins, also where the clock of its node stepped back; older backlog changes nothing', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  table.apply(blockOf(POWER, START_MS + 2_000, [300, 301], { source }));
  table.apply(blockOf(POWER, START_MS + 1_000, [1, 1], { source, live: false }));
  table.apply(blockOf(POWER, START_MS + 1_500, [2, 2], { source }));
  // The live lane is in order: this one was recorded last.
  expect(valuesOf(table, 'a')).toEqual([[2, 2]]);
  expect(table.node('a')!.lastSampleMs).toBe(START_MS + 1_500);
  table.apply(blockOf(POWER, START_MS + 3_000, [302, 303], { source, live: false }));
  expect(valuesOf(table, 'a')).toEqual([[302, 303]]);
  expect(table.node('a')!.lastSampleMs, 'of the live lane alone').toBe(START_MS + 1_500);
});

test('the arrays of a tick belong to its sender: reusing them changes nothing here', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  for (const moment of [1_000, 2_000]) {
    const block = blockOf(POWER, START_MS + moment, [300, 301], { source });
    table.apply(block);
    block.values.fill(0);
    block.states.fill(SlotState.Stale);
  }
  expect(valuesOf(table, 'a')).toEqual([[300, 301]]);
  expect([...table.node('a')!.groups[0]!.states]).toEqual([SlotState.Present, SlotState.Present]);
});

test('states are kept as they came: stale and timed out are not present', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  const block = blockOf(POWER, START_MS, [300, 301], { source });
  block.states.set([SlotState.Stale, SlotState.Timeout]);
  table.apply(block);
  expect([...table.node('a')!.groups[0]!.states]).toEqual([SlotState.Stale, SlotState.Timeout]);
});

test('a new dictionary replaces the group: a GPU that went is not found any more, its successor is', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  table.apply(blockOf(POWER, START_MS, [300, 301], { source }));
  expect(table.gpu('GPU-1')?.gpu).toBe('1');
  const changed = dictionaryOf([0, 2].map((gpu) => series('gpu_power_watts', gpuLabels(gpu))));
  table.apply(blockOf(changed, START_MS + 1_000, [300, 302], { source }));
  expect(table.node('a')!.gpus.map(({ uuid }) => uuid)).toEqual(['GPU-0', 'GPU-2']);
  expect(table.gpu('GPU-1')).toBeUndefined();
  expect(table.gpu('GPU-2')?.node.source).toBe(source);
});

test('a GPU that moves to another node is found there, also when the first one lets it go', () => {
  const { table, connect } = tableOf();
  const [from, to] = [connect('a'), connect('b')];
  table.apply(blockOf(POWER, START_MS, [300, 301], { source: from }));
  table.apply(
    blockOf(dictionaryOf([series('gpu_power_watts', gpuLabels(1))]), START_MS, [301], { source: to }),
  );
  table.apply(
    blockOf(dictionaryOf([series('gpu_power_watts', gpuLabels(0))]), START_MS + 1_000, [300], {
      source: from,
    }),
  );
  expect(table.gpu('GPU-1')?.node.source.node).toBe('b');
});

test('up, stale after three intervals and a second, down when the stream ends, up again with the next', () => {
  const { table, clock, connect } = tableOf();
  const source = connect('a');
  const state = () => table.node('a')!.state;
  expect(state()).toBe('up');
  table.apply(blockOf(POWER, clock.ms, [1, 2], { source }));
  clock.ms += 4_000;
  expect(state()).toBe('up');
  clock.ms += 1;
  expect(state()).toBe('stale');
  table.apply(blockOf(POWER, clock.ms, [1, 2], { source, live: false }));
  expect(state(), 'backlog is no sign of life').toBe('stale');
  table.apply(blockOf(POWER, clock.ms, [1, 2], { source }));
  expect(state()).toBe('up');
  table.disconnected(source);
  expect(state()).toBe('down');
  expect(valuesOf(table, 'a'), 'what it last said stays').toEqual([[1, 2]]);
  connect('a');
  expect(state()).toBe('up');
});

test('the end of a stream that was replaced does not mark the node down', () => {
  const { table, connect } = tableOf();
  const old = connect('a');
  connect('a');
  table.disconnected(old);
  expect(table.node('a')!.connected).toBe(true);
});

test('a node that has been away for 24 h is forgotten, GPUs too; one that is connected never is', () => {
  const { table, clock, connect } = tableOf();
  const gone = connect('gone');
  connect('here');
  table.apply(blockOf(POWER, START_MS, [1, 2], { source: gone }));
  table.disconnected(gone);
  clock.ms += 86_400_000 - 1;
  expect(table.nodes().map(({ source }) => source.node)).toEqual(['gone', 'here']);
  clock.ms += 60_001;
  expect(table.nodes().map(({ source }) => source.node)).toEqual(['here']);
  expect(table.gpu('GPU-0')).toBeUndefined();
});

test('nodes come by cluster and name; a name that two clusters have is the first by cluster', () => {
  const { table, connect } = tableOf();
  for (const [node, cluster] of [
    ['b', 'east'],
    ['a', 'west'],
    ['a', 'east'],
    ['a-1', 'east'],
  ] as const)
    connect(node, cluster);
  expect(table.nodes().map(({ source }) => `${source.cluster}/${source.node}`)).toEqual([
    'east/a',
    'east/a-1',
    'east/b',
    'west/a',
  ]);
  expect(table.node('a')?.source.cluster).toBe('east');
  expect(table.node('c')).toBeUndefined();
});

// One agent that makes things up must not take the memory of all.
test('too many nodes, GPUs and groups are refused and counted; the rest goes on', async () => {
  const { table, connect, refused } = tableOf({ maxNodes: 2, maxGpusPerNode: 2, maxGroupsPerNode: 2 });
  const source = connect('a');
  connect('b');
  const third = connect('c');
  table.apply(blockOf(POWER, START_MS, [1, 2], { source: third }));
  table.disconnected(third);
  expect(table.nodes()).toHaveLength(2);
  expect(await refused('node')).toBe(1);

  const three = dictionaryOf([0, 1, 2].map((gpu) => series('gpu_power_watts', gpuLabels(gpu))));
  table.apply(blockOf(three, START_MS, [1, 2, 3], { source }));
  expect(table.node('a')!.gpus.map(({ gpu }) => gpu)).toEqual(['0', '1']);
  expect(await refused('gpu')).toBe(1);

  const group = (name: string) => createDictionary(name, 1_000, [series('up', [])]);
  table.apply(blockOf(group('second'), START_MS + 2, [1], { source }));
  table.apply(blockOf(group('third'), START_MS + 1, [1], { source }));
  expect(table.node('a')!.groups.map(({ dictionary }) => dictionary.group)).toEqual(['second', 'third']);
  expect(await refused('group')).toBe(1);
});

test('driver and serial come from gpu_info, in whichever group it is; a GPU has the series of all groups', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  const info = createDictionary('info', 60_000, [
    series('gpu_info', gpuLabels(0, { driver_version: '570.1', serial: 's' })),
  ]);
  table.apply(blockOf(POWER, START_MS, [1, 2], { source }));
  table.apply(blockOf(info, START_MS, [1], { source }));
  const gpu = table.gpu('GPU-0')!;
  expect(gpu.model).toBe('NVIDIA H100 80GB HBM3');
  expect(Object.fromEntries(gpu.labels)).toEqual({ driver_version: '570.1', serial: 's' });
  expect(gpu.places.map(({ group, slots }) => [group.dictionary.group, slots.slots])).toEqual([
    ['test', [0]],
    ['info', [0]],
  ]);
});

test('names of dcgm-exporter are understood, and GPUs come by index, then by UUID', () => {
  const { table, connect } = tableOf();
  const source = connect('a');
  const dcgm = dictionaryOf([
    series('DCGM_FI_DEV_GPU_TEMP', [
      ['UUID', 'GPU-z'],
      ['gpu', '10'],
      ['modelName', 'NVIDIA A100'],
    ]),
    series('DCGM_FI_DEV_GPU_TEMP', [
      ['UUID', 'GPU-y'],
      ['gpu', '9'],
    ]),
    series('power', [['uuid', 'GPU-b']]),
    series('power', [['uuid', 'GPU-a']]),
    series('node_load1', []),
  ]);
  table.apply(blockOf(dcgm, START_MS, [1, 2, 3, 4, 5], { source }));
  expect(table.node('a')!.gpus.map(({ uuid }) => uuid)).toEqual(['GPU-a', 'GPU-b', 'GPU-y', 'GPU-z']);
  expect(table.gpu('GPU-z')?.model).toBe('NVIDIA A100');
});

test('gpufleet_nodes counts by state', async () => {
  const { table, registry, connect } = tableOf();
  connect('a');
  table.disconnected(connect('b'));
  const page = await registry.metrics();
  expect(page).toContain('gpufleet_nodes{state="up"} 1');
  expect(page).toContain('gpufleet_nodes{state="stale"} 0');
  expect(page).toContain('gpufleet_nodes{state="down"} 1');
});
