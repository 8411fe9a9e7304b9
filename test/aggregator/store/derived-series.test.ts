import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { DerivedSeries, type NodeFigures } from '../../../aggregator/store/derived-series.ts';

const source: Source = { cluster: 'c', node: 'n', externalLabels: [] };
const figures = (up: boolean, score: number): NodeFigures => ({
  source,
  up,
  score,
  gpus: [
    {
      ...{ gpu: '0', uuid: 'GPU-0', model: 'H100', score, dimensions: [80, 100, 100, 100, Number.NaN] },
      ...{ state: 3, confidence: 0.75, anomaly: 0 },
    },
  ],
});
const NO_SCOPES = { cluster: 'c', scopes: [] };

/** Labels that tell series of one GPU, pool or fleet apart. */
const KEPT = new Set(['dimension', 'pool', 'state']);

function derived() {
  const registry = createRegistry();
  const stored: { at: number; series: Record<string, number> }[] = [];
  const store = { open: true };
  const writer = new DerivedSeries(
    async (block: Block) => {
      if (!store.open) return { state: 'deferred' };
      stored.push({
        at: block.timestampMs,
        series: Object.fromEntries(
          block.dictionary.series.flatMap(({ name, labels }, slot) =>
            block.states[slot] === SlotState.Present
              ? [
                  [
                    [name, ...labels.filter(([label]) => KEPT.has(label)).flat()].join(' '),
                    block.values[slot]!,
                  ],
                ]
              : [],
          ),
        ),
      });
      return { state: 'accepted' };
    },
    silentLogger,
    registry,
  );
  return { writer, stored, store, registry };
}

test('node up and health scores on the grid; a node that went is a zero, not a hole', async () => {
  const { writer, stored } = derived();
  await writer.write(10_000, [figures(true, 93.5)], NO_SCOPES);
  await writer.write(20_000, [figures(false, 93.5)], NO_SCOPES);
  const scored = {
    gpufleet_node_health_score: 93.5,
    'gpufleet_health_score dimension all': 93.5,
    'gpufleet_health_score dimension memory': 80,
    'gpufleet_health_score dimension thermal': 100,
    'gpufleet_health_score dimension power': 100,
    'gpufleet_health_score dimension performance': 100,
    // Reliability is not known: absent, and not zero.
    gpufleet_health_state: 3,
    gpufleet_health_severity: 2,
    gpufleet_health_confidence: 0.75,
    gpufleet_anomaly_strength: 0,
  };
  expect(stored).toEqual([
    { at: 10_000, series: { gpufleet_node_up: 1, ...scored } },
    { at: 20_000, series: { gpufleet_node_up: 0, ...scored } },
  ]);
});

test('what the store does not take is held and comes later with its own time; after 15 minutes it goes, counted', async () => {
  const { writer, stored, store, registry } = derived();
  store.open = false;
  await writer.write(10_000, [figures(true, 90)], NO_SCOPES);
  await writer.write(20_000, [figures(true, 91)], NO_SCOPES);
  store.open = true;
  await writer.write(30_000, [figures(true, 92)], NO_SCOPES);
  expect(stored.map(({ at, series }) => [at, series['gpufleet_health_score dimension all']])).toEqual([
    [10_000, 90],
    [20_000, 91],
    [30_000, 92],
  ]);
  store.open = false;
  await writer.write(40_000, [figures(true, 93)], NO_SCOPES);
  await writer.write(40_000 + 16 * 60_000, [figures(true, 94)], NO_SCOPES);
  expect(await registry.metrics()).toContain('gpufleet_derived_dropped_samples_total 12');
  expect(await registry.metrics()).toContain('gpufleet_derived_held_samples 12');
});

test('pools and the fleet are series without a node', async () => {
  const { writer, stored } = derived();
  await writer.write(10_000, [], {
    cluster: 'c',
    scopes: [
      { scope: 'pool', name: 'train', score: 97, gpus: { healthy: 7, critical: 1 } },
      { scope: 'fleet', name: '', score: 99, gpus: { healthy: 15, critical: 1 } },
    ],
  });
  expect(stored[0]!.series).toEqual({
    'gpufleet_pool_health_score pool train': 97,
    'gpufleet_pool_gpus pool train state healthy': 7,
    'gpufleet_pool_gpus pool train state critical': 1,
    gpufleet_fleet_health_score: 99,
    'gpufleet_fleet_gpus state healthy': 15,
    'gpufleet_fleet_gpus state critical': 1,
  });
});

// An alert on a score must not wait for a database.
test('each block of a node is evaluated before it is stored', async () => {
  const order: string[] = [];
  const writer = new DerivedSeries(
    async () => {
      order.push('stored');
      return { state: 'accepted' };
    },
    silentLogger,
    createRegistry(),
    ({ source: { node } }) => order.push(`evaluated ${node}`),
  );
  await writer.write(10_000, [figures(true, 10)], NO_SCOPES);
  expect(order).toEqual(['evaluated n', 'stored']);
});
