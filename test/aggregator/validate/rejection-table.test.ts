import { expect, it } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import type { RejectedSample } from '#shared/model/rejection.ts';
import { RejectionTable } from '../../../aggregator/validate/rejection-table.ts';
import { gpuLabels, series } from '../alerts/block-of.ts';

const node = (name: string): Source => ({ cluster: 'east', node: name, externalLabels: [] });

const sample = (gpu: number, value = 999): RejectedSample => ({
  series: series('gpu_temperature_celsius', gpuLabels(gpu)),
  ...{ value, reason: 'out_of_range', low: -40, high: 150, count: 1 },
});

it('a sensor that is wrong at every tick is one line that counts, also over a new stream of its node', () => {
  const table = new RejectionTable();
  // New label lists each time, as each stream's dictionary brings.
  for (let i = 1; i <= 5; i++) table.note(node('a'), 'nvml', sample(0, 900 + i), i * 1000);
  expect(table.list()).toMatchObject([
    { node: 'a', group: 'nvml', count: 5, value: 905, firstMs: 1000, lastMs: 5000, low: -40, high: 150 },
  ]);
});

it('what comes late does not hide the newest value', () => {
  const table = new RejectionTable();
  table.note(node('a'), 'nvml', sample(0, 1), 5000);
  table.note(node('a'), 'nvml', sample(0, 2), 1000);
  expect(table.list()).toMatchObject([{ value: 1, count: 2, firstMs: 1000, lastMs: 5000 }]);
});

it('a node has at most its share, the newest', () => {
  const table = new RejectionTable({ perNode: 3 });
  for (let gpu = 0; gpu < 10; gpu++) table.note(node('a'), 'nvml', sample(gpu), gpu);
  expect(table.list('a').map(({ lastMs }) => lastMs)).toEqual([9, 8, 7]);
});

// Lost without it: a fleet with one bad driver release fills the memory of its aggregator.
it('all nodes together are bounded: the one that was quiet longest gives way', () => {
  const table = new RejectionTable({ entries: 1_000, perNode: 20 });
  for (let i = 0; i < 200; i++) {
    for (let gpu = 0; gpu < 8; gpu++) table.note(node(`n${i}`), 'nvml', sample(gpu), i);
    // It goes on being wrong.
    table.note(node('n0'), 'nvml', sample(0), i);
  }
  const all = table.list();
  expect(all).toHaveLength(1_000);
  expect(table.list('n199')).toHaveLength(8);
  expect(table.list('n1')).toEqual([]);
  expect(table.list('n0').length).toBeGreaterThan(0);
});

it('shows copies: who lists does not change what is counted', () => {
  const table = new RejectionTable();
  table.note(node('a'), 'nvml', sample(0), 1);
  const before = table.list();
  table.note(node('a'), 'nvml', sample(0), 2);
  expect(before[0]!.count).toBe(1);
});
