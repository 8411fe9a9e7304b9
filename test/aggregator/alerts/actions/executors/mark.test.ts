import { expect, test } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { markKind } from '../../../../../aggregator/alerts/actions/executors/mark.ts';
import { contextOf, depsOf, FakeMarks, inTime, TARGET } from './fixtures.ts';

const open = (state: string, marks: FakeMarks) => markKind.open(state, depsOf({ marks }));

test('a node is marked with who and why, and undo takes the mark away', async () => {
  const marks = new FakeMarks();
  await using executor = await open('degraded', marks);
  const done = await executor.execute(TARGET, contextOf(), inTime());
  expect(marks.get('c', 'node-a')).toEqual({
    state: 'degraded',
    by: 'policy drain-critical',
    why: 'gpufleet step-1: GPU 3 fell off the bus (Xid 79)',
  });
  expect(done).toMatchObject({ outcome: 'done', before: {}, undo: {} });
  expect(await executor.undo(TARGET, contextOf(), {}, inTime())).toMatchObject({ outcome: 'done' });
  expect(marks.all.size).toBe(0);
});

// Lost without it: an alert rewrites what a person said of a node, and its end puts a node in maintenance to work.
test("a person's mark stands, whatever it says", async () => {
  for (const state of ['degraded', 'maintenance'] as const) {
    const marks = new FakeMarks();
    marks.all.set('node-a', { state, by: 'anna', why: 'new fan' });
    await using executor = await open('drained', marks);
    expect(await executor.execute(TARGET, contextOf(), inTime())).toMatchObject({
      outcome: 'already',
      before: { state, by: 'anna' },
    });
    expect(await executor.undo(TARGET, contextOf(), {}, inTime())).toMatchObject({ outcome: 'already' });
    expect(marks.changes).toBe(0);
  }
});

test("another policy's weaker mark gives way, and comes back with undo; a stronger one stands", async () => {
  const marks = new FakeMarks();
  const weaker = { state: 'degraded', by: 'policy watch', why: 'gpufleet step-0: slow' } as const;
  marks.all.set('node-a', weaker);
  await using executor = await open('drained', marks);
  const done = await executor.execute(TARGET, contextOf(), inTime());
  expect(marks.get('c', 'node-a')?.state).toBe('drained');
  await using degraded = await open('degraded', marks);
  expect(await degraded.execute(TARGET, contextOf('step-2'), inTime())).toMatchObject({ outcome: 'already' });
  const undo = 'undo' in done ? done.undo! : {};
  expect(await executor.undo(TARGET, contextOf(), undo, inTime())).toMatchObject({ outcome: 'done' });
  expect(marks.get('c', 'node-a')).toEqual(weaker);
});

test.each([
  ['unavailable', 'retry'],
  ['resource_exhausted', 'retry'],
  ['invalid_input', 'failed'],
] as const)('marks that throw %s are a step that has %s', async (code, outcome) => {
  const marks = new FakeMarks();
  marks.set = () => Promise.reject(new FleetError(code, 'Cannot set it'));
  await using executor = await open('degraded', marks);
  expect(await executor.execute(TARGET, contextOf(), inTime())).toMatchObject({
    outcome,
    why: 'Cannot set it',
  });
});
