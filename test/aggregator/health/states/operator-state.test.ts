import { describe, expect, it } from 'vitest';
import { OperatorStates } from '../../../../aggregator/health/states/operator-state.ts';
import { tempDir } from '../../../support/temp.ts';
import { ManualClock, START_MS } from '../../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';

const N0 = { cluster: 'east', node: 'n0' };
const N1 = { cluster: 'east', node: 'n1' };
const DRAINED = { state: 'drained', by: 'ada', why: 'swap of the riser' } as const;

describe('what operators say of nodes', () => {
  it('is on disk when it is taken: a node that was drained before a kill is still drained', async () => {
    await using dir = tempDir('operator');
    await using first = await shelfIn(`${dir.path}/shelf`);
    const states = await OperatorStates.open(first);
    await states.set(N0, DRAINED);
    await states.set(N1, DRAINED);
    await states.clear(N1);
    await using again = await shelfIn(crashCopy(dir, first.path));
    const reopened = await OperatorStates.open(again);
    expect(reopened.list()).toEqual([{ ...N0, ...DRAINED, sinceMs: START_MS }]);
    expect(reopened.suppresses(N0)).toBe(true);
  });

  it.each([
    ['degraded', false],
    ['drained', true],
    ['maintenance', true],
  ] as const)('%s suppresses the alarms of its GPUs: %s', async (state, suppresses) => {
    const states = await OperatorStates.open({ shelf: new FakeShelf(), clock: new ManualClock() });
    await states.set(N0, { ...DRAINED, state });
    expect(states.suppresses(N0)).toBe(suppresses);
    expect(states.of(N0)).toMatchObject({ state, by: 'ada', why: 'swap of the riser', sinceMs: START_MS });
    expect(states.suppresses(N1)).toBe(false);
    expect(states.suppresses({ cluster: 'west', node: 'n0' })).toBe(false);
  });

  it('ends by itself: a forgotten maintenance does not silence a node for ever', async () => {
    const clock = new ManualClock();
    const shelf = new FakeShelf();
    const states = await OperatorStates.open({ shelf, clock });
    await states.set(N0, { ...DRAINED, untilMs: START_MS + 1000 });
    clock.ms += 999;
    expect(states.suppresses(N0)).toBe(true);
    clock.ms += 1;
    expect(states.suppresses(N0)).toBe(false);
    expect(states.list()).toEqual([]);
    await expect(states.clear(N0)).rejects.toMatchObject({ code: 'not_found' });
    await OperatorStates.open({ shelf, clock });
    expect(shelf.values.size).toBe(0);
  });

  it('is replaced by what is said later, and taken back', async () => {
    const states = await OperatorStates.open({ shelf: new FakeShelf(), clock: new ManualClock() });
    await states.set(N0, DRAINED);
    await states.set(N0, { state: 'degraded', by: 'bob', why: 'one fan' });
    expect(states.list()).toMatchObject([{ state: 'degraded', by: 'bob' }]);
    expect(await states.clear(N0)).toMatchObject({ state: 'degraded' });
    expect(states.of(N0)).toBeUndefined();
  });

  it.each([
    ['no author', { by: ' ' }],
    ['no reason', { why: '' }],
    ['a reason without end', { why: 'x'.repeat(1001) }],
    ['an end that is past', { untilMs: START_MS }],
    ['an end that is no time', { untilMs: Number.NaN }],
    ['a state that is none', { state: 'broken' as 'drained' }],
  ])('is refused with %s', async (_, wrong) => {
    const shelf = new FakeShelf();
    const states = await OperatorStates.open({ shelf, clock: new ManualClock() });
    await expect(states.set(N0, { ...DRAINED, ...wrong })).rejects.toMatchObject({ code: 'invalid_input' });
    expect(states.list()).toEqual([]);
    expect(shelf.values.size).toBe(0);
  });

  it('is bounded, and expired ones make room', async () => {
    const clock = new ManualClock();
    const states = await OperatorStates.open({ shelf: new FakeShelf(), clock, maxNodes: 1 });
    await states.set(N0, { ...DRAINED, untilMs: START_MS + 1000 });
    await expect(states.set(N1, DRAINED)).rejects.toMatchObject({ code: 'resource_exhausted' });
    clock.ms += 1000;
    await states.set(N1, DRAINED);
    expect(states.list()).toHaveLength(1);
  });

  it('does not hold what the disk refused', async () => {
    const shelf = new FakeShelf();
    const states = await OperatorStates.open({ shelf, clock: new ManualClock() });
    shelf.refuses = true;
    await expect(states.set(N0, DRAINED)).rejects.toThrow('disk full');
    expect(states.suppresses(N0)).toBe(false);
  });
});
