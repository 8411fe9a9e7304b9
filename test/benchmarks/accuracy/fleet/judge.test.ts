import { expect, test } from 'vitest';
import type { PlannedNode } from '../../../../benchmarks/accuracy/fleet/fleet-plan.ts';
import { judge } from '../../../../benchmarks/accuracy/fleet/judge.ts';
import type { Alarm } from '../../../../benchmarks/accuracy/fleet/watch.ts';

const START_MS = 1_000_000;
const HEALTHY: PlannedNode = { name: 'a', model: 'H100', load: 'jobs', script: [], fault: undefined };
const FAULTY: PlannedNode = {
  ...HEALTHY,
  fault: { kind: 'straggler', gpu: 3, begins: 1000, ends: 2000, ofNode: false },
};

const alarm = (seconds: number, gpu: string, node = 'a'): Alarm => ({
  atMs: START_MS + seconds * 1000,
  node,
  gpu,
  how: 'incident',
  text: '',
});

test('the first alarm on the right GPU finds a fault, and the delay counts from the read before it: figures would flatter us', () => {
  const alarms = [alarm(1010, '4'), alarm(1060, '3', 'b'), alarm(1090, '3'), alarm(1200, '3')];
  const { finding, falseAlarms } = judge(FAULTY, alarms, START_MS);
  expect(finding?.delaySeconds).toBe(100);
  expect(finding?.by).toBe(alarms[2]);
  expect(finding?.elsewhere).toEqual([alarms[0]]);
  expect(falseAlarms).toEqual([]);
});

test.each([
  ['before it begins', 990, '3'],
  ['more than ten minutes after its end', 2601, '3'],
  ['of another GPU', 1500, '4'],
  ['of the node, where one GPU has it', 1500, ''],
])('an alarm %s does not find a fault', (_, seconds, gpu) => {
  expect(judge(FAULTY, [alarm(seconds, gpu)], START_MS).finding?.delaySeconds).toBeUndefined();
});

test('a fault of the node is found by an alarm on any of its GPUs', () => {
  const node = { ...FAULTY, fault: { ...FAULTY.fault!, ofNode: true } };
  expect(judge(node, [alarm(1030, '7')], START_MS).finding?.delaySeconds).toBe(40);
  expect(judge(node, [alarm(2600, '')], START_MS).finding?.delaySeconds).toBe(1610);
});

test('what is raised without a fault, or before it, is a false alarm: each one counts', () => {
  const alarms = [alarm(10, '1'), alarm(20, '1'), alarm(20, '2', 'b')];
  expect(judge(HEALTHY, alarms, START_MS)).toEqual({ falseAlarms: alarms.slice(0, 2), finding: undefined });
  expect(judge(FAULTY, alarms, START_MS).falseAlarms).toHaveLength(2);
});
