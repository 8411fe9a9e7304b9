import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import { DerivedSeries, type NodeFigures } from '../../../aggregator/store/derived-series.ts';

const source: Source = { cluster: 'c', node: 'n', externalLabels: [] };
const figures = (up: boolean, score: number): NodeFigures => ({
  source,
  up,
  gpus: [{ gpu: '0', uuid: 'GPU-0', model: 'H100', score }],
});

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
          block.dictionary.series.map(({ name }, slot) => [name, block.values[slot]!]),
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
  await writer.write(10_000, [figures(true, 93.5)]);
  await writer.write(20_000, [figures(false, 93.5)]);
  expect(stored).toEqual([
    { at: 10_000, series: { gpufleet_node_up: 1, gpu_health_score: 93.5 } },
    { at: 20_000, series: { gpufleet_node_up: 0, gpu_health_score: 93.5 } },
  ]);
});

test('what the store does not take is held and comes later with its own time; after 15 minutes it goes, counted', async () => {
  const { writer, stored, store, registry } = derived();
  store.open = false;
  await writer.write(10_000, [figures(true, 90)]);
  await writer.write(20_000, [figures(true, 91)]);
  store.open = true;
  await writer.write(30_000, [figures(true, 92)]);
  expect(stored.map(({ at, series }) => [at, series.gpu_health_score])).toEqual([
    [10_000, 90],
    [20_000, 91],
    [30_000, 92],
  ]);
  store.open = false;
  await writer.write(40_000, [figures(true, 93)]);
  await writer.write(40_000 + 16 * 60_000, [figures(true, 94)]);
  expect(await registry.metrics()).toContain('gpufleet_derived_dropped_samples_total 2');
  expect(await registry.metrics()).toContain('gpufleet_derived_held_samples 2');
});
