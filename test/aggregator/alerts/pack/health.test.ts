import { describe, expect, test } from 'vitest';
import type { FaultKind } from '../../../../agent/collect/simulated/faults.ts';
import { AssessedNode, NODE } from '../../assessed-node.ts';
import { PackRun } from './pack-run.ts';

/** A simulated node before the real health engine, whose word goes to the shipped rules as in the aggregator. */
async function assessed(kind: FaultKind | undefined, minutes: readonly [during: number, after: number]) {
  const run = new PackRun();
  await using node = await AssessedNode.open();
  let told = 0;
  const pass = async (length: number) => {
    for (let minute = 0; minute < length; minute++) {
      await node.pass(1);
      run.pass(node.clock.ms - run.clock.ms);
      for (; told < node.told.length; told++) run.event(NODE, node.told[told]!);
    }
  };
  await pass(40);
  const before = run.lines;
  if (kind !== undefined) await node.befall(kind, 1, { duration: minutes[0] * 60_000 });
  await pass(minutes[0]);
  const during = run.lines;
  await pass(minutes[1]);
  run[Symbol.dispose]();
  return { before, during, after: run.lines };
}

// Lost without it: what only the health engine can see is seen, and nobody is told.
describe('the word of the health engine', () => {
  test('of a healthy node is none', async () => {
    expect(await assessed(undefined, [20, 0])).toEqual({ before: [], during: [], after: [] });
  });

  test('of a board that cannot remap is critical, of that GPU', async () => {
    const { before, during } = await assessed('row_remap_failure', [10, 0]);
    expect(before).toEqual([]);
    expect(during).toContain('gpu-critical critical gpu=1 firing');
    expect(during.filter((line) => !line.includes('gpu=1'))).toEqual([]);
  });

  // The state machine keeps a GPU critical until its score was good for two hours.
  test('of a board that heats up ends when it has been cool for long', async () => {
    const { before, during, after } = await assessed('thermal_runaway', [15, 210]);
    expect(before).toEqual([]);
    expect(during).toContain('gpu-critical critical gpu=1 firing');
    expect(during).toContain('gpu-degraded warning gpu=1');
    expect(after).toContain('gpu-critical critical gpu=1');
  });
});
