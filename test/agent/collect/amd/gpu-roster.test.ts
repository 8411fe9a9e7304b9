import { expect, test } from 'vitest';
import { GpuRoster } from '../../../../agent/collect/amd/gpu-roster.ts';
import { RememberedFacts } from './sysfs/amd-node.ts';

const DAY = 86_400_000;
const gpu = (bus: string, uuid = bus) => ({ pci: `0000:${bus}:00.0`, uuid, model: 'MI300X', serial: '' });
const indices = (roster: GpuRoster) =>
  Object.fromEntries(roster.known.map(({ pci, index }) => [pci.slice(5, 7), index]));

// Lost without it: a GPU's series that change to its neighbour's index.
test('indices follow the PCI addresses, and stay when a GPU is lost or the agent starts again', () => {
  const facts = new RememberedFacts();
  const roster = new GpuRoster('s', facts, 0);
  roster.observe([gpu('22'), gpu('0c'), gpu('38')], 0);
  expect(indices(roster)).toEqual({ '0c': 0, '22': 1, '38': 2 });
  roster.observe([gpu('0c'), gpu('38')], 1);
  const again = new GpuRoster('s', facts, DAY);
  expect(again.observe([gpu('0c'), gpu('38')], DAY)).toEqual([]);
  expect(indices(again)).toEqual({ '0c': 0, '22': 1, '38': 2 });
  expect(again.observe([gpu('0c'), gpu('22'), gpu('38')], DAY)).toMatchObject([
    { type: 'gpu_back', gpu: '1' },
  ]);
});

test('a board that was away for more than a week is forgotten when the agent starts', () => {
  const facts = new RememberedFacts();
  const roster = new GpuRoster('s', facts, 0);
  roster.observe([gpu('0c'), gpu('22')], 0);
  roster.observe([gpu('22')], 1);
  expect(indices(new GpuRoster('s', facts, 8 * DAY))).toEqual({ '22': 1 });
});

// Lost without it: an agent that does not start because its facts are damaged.
test.each(['', 'null', '{}', '[null]', '[{"pci":1}]', '[{"pci":"a","uuid":"","model":"","serial":""}]'])(
  'facts such as %s are not believed',
  (text) => {
    const facts = new RememberedFacts();
    facts.set('amd-sysfs/gpus', text);
    expect(new GpuRoster('s', facts, 0).known).toEqual([]);
  },
);

test('more GPUs than a node has are not remembered', () => {
  const roster = new GpuRoster('s', new RememberedFacts(), 0);
  roster.observe(
    Array.from({ length: 1000 }, (_, i) => gpu(i.toString(16).padStart(4, '0'))),
    0,
  );
  expect(roster.known).toHaveLength(128);
});
