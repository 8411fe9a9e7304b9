import { expect, test } from 'vitest';
import { FAULT_KINDS, type FleetPart } from '../../../../benchmarks/accuracy/fleet/fleet-plan.ts';
import { watchPart } from '../../../../benchmarks/accuracy/fleet/watch-part.ts';
import { watchParts } from '../../../../benchmarks/accuracy/fleet/watch-parts.ts';

const LOST = FAULT_KINDS.indexOf('off_the_bus');
const FAULTY: FleetPart = { seed: 5, index: 0, faulty: true, nodes: LOST + 1, seconds: 0 };
const QUIET: FleetPart = { seed: 5, index: 0, faulty: false, nodes: 1, seconds: 3600 };

test('a GPU that falls off the bus is found by the next read, on its own node: the harness sees what health says', {
  timeout: 120_000,
}, async () => {
  const { findings, samplesAlone, gpuSeconds } = await watchPart(FAULTY);
  expect(findings.map(({ fault }) => fault.kind)).toEqual(FAULT_KINDS.slice(0, LOST + 1));
  const lost = findings[LOST]!;
  expect(lost.delaySeconds).toBe(30);
  // Without the event it is known a little later, by what is missing.
  expect(samplesAlone[LOST]!.delaySeconds).toBeGreaterThanOrEqual(lost.delaySeconds!);
  expect(gpuSeconds).toBeGreaterThan(12 * 3600 * 8 * FAULTY.nodes);
});

test('workers give the same as one thread, in the order of the parts: figures can be had again', {
  timeout: 120_000,
}, async () => {
  const parts = [QUIET, { ...QUIET, index: 1 }, { ...QUIET, index: 2, seconds: 600 }];
  const finished: number[] = [];
  const results = await watchParts(parts, (count) => finished.push(count));
  expect(results).toEqual([
    await watchPart(parts[0]!),
    await watchPart(parts[1]!),
    await watchPart(parts[2]!),
  ]);
  expect(finished).toEqual([1, 2, 3]);
});
