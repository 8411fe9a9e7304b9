import { describe, expect, it } from 'vitest';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { ActionDocument } from '../../../../aggregator/alerts/actions/action-document.ts';
import { keeperOf, takerBackOf } from '../../../../aggregator/alerts/actions/node-keepers.ts';
import { until } from '../../../support/wait.ts';
import { criticalAlert, JumpingClock, resolved, ScriptedFeed, startActions } from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { RecordingMachines } from './recording-machines.ts';

const policy = (name: string, rule: string, undo: string) => `
  - name: ${name}
    matchers: ['rule=${rule}']
    mode: live
    approval: none
    undo: ${undo}
    cool_down: 1h
    steps: [drain: true]`;
const file = (undoOfB = 'on_resolve') =>
  `mode: live\npolicies:${policy('a', 'gpu-critical', 'on_resolve')}${policy('b', 'gpu-lost', undoOfB)}\n`;

async function open(yaml: string) {
  const machines = new RecordingMachines();
  const clock = new JumpingClock();
  const feed = new ScriptedFeed();
  const opened = await startActions(yaml, machines, new MemoryBucket().client(), { clock, feed });
  const of = (name: string): ActionDocument | undefined =>
    opened.actions.list().find((one) => one.policy === name);
  const becomes = (name: string, state: string, words = '') =>
    until(() => of(name)?.state === state && of(name)!.why.includes(words), {
      timeoutMs: 20_000,
      what: `the action of ${name} is ${state}`,
      detail: () => JSON.stringify(opened.actions.list().map((one) => [one.policy, one.state, one.why])),
    });
  /** What waits looks again. */
  const later = (): void => {
    clock.offsetMs += 31_000;
  };
  return { ...opened, machines, clock, feed, of, becomes, later };
}

const lost = (node: string, nowMs: number): Alert =>
  criticalAlert(node, nowMs, { id: 'b'.repeat(16), rule: 'gpu-lost' });

describe('two actions on one node', () => {
  it('keep it out until the second, too, is over: else a broken node takes work again', async () => {
    const world = await open(file());
    await using _ = world;
    const { feed, clock, machines, becomes } = world;
    const [first, second] = [criticalAlert('n1', clock.now()), lost('n1', clock.now())];
    feed.say(first);
    await becomes('a', 'done');
    feed.say(second);
    await becomes('b', 'done');
    expect(world.of('b')!.steps[0]!.state).toBe('already');
    feed.say(resolved(first, clock.now()));
    await becomes('a', 'undoing', 'of policy b still needs the node so');
    world.later();
    await becomes('a', 'undoing', 'still needs');
    expect([...machines.out.keys()]).toEqual(['n1']);
    expect(machines.calls).not.toContain('undo drain n1');
    feed.say(resolved(second, clock.now()));
    // It did nothing itself; without this it would hold its place in the share for ever.
    await becomes('b', 'undone');
    world.later();
    await becomes('a', 'undone');
    expect(machines.out.size).toBe(0);
    await until(() => world.actions.list().every(({ holds }) => !holds), {
      timeoutMs: 20_000,
      what: 'both places are free',
    });
    const waits = world.audit.filter(
      ({ what, result }) => what === 'action.undo_step' && result === 'waiting',
    );
    expect(waits).toHaveLength(1);
  });

  it('wait for the one that a person has to undo, also where a person asks for the first', async () => {
    const world = await open(file('by_hand'));
    await using _ = world;
    const { feed, clock, machines, becomes } = world;
    feed.say(criticalAlert('n1', clock.now()));
    await becomes('a', 'done');
    feed.say(lost('n1', clock.now()));
    await becomes('b', 'done');
    await world.actions.undo(world.of('a')!.id, 'ada', '');
    await becomes('a', 'undoing', 'still needs');
    await world.actions.undo(world.of('b')!.id, 'ada', '');
    await becomes('b', 'undone');
    world.later();
    await becomes('a', 'undone');
    expect(machines.out.size).toBe(0);
  });

  it('no longer wait for each other once an operator put the node back', async () => {
    const world = await open(file('by_hand'));
    await using _ = world;
    const { feed, clock, becomes } = world;
    const first = criticalAlert('n1', clock.now());
    feed.say(first);
    await becomes('a', 'done');
    feed.say(lost('n1', clock.now()));
    await becomes('b', 'done');
    await world.actions.nodeCleared('east', 'n1', 'ada', 'new board');
    feed.say(resolved(first, clock.now()));
    await becomes('a', 'undone');
  });

  it('do not take it for drained while the other resumes it at that moment: it does it anew', async () => {
    const world = await open(file());
    await using _ = world;
    const { feed, clock, machines } = world;
    const gate = Promise.withResolvers<void>();
    machines.pause = () => (machines.calls.at(-1) === 'undo drain n1' ? gate.promise : Promise.resolve());
    const first = criticalAlert('n1', clock.now());
    feed.say(first);
    await world.becomes('a', 'done');
    feed.say(resolved(first, clock.now()));
    await until(() => machines.calls.includes('undo drain n1'), {
      timeoutMs: 20_000,
      what: 'the undo began',
    });
    feed.say(lost('n1', clock.now()));
    await world.becomes('b', 'pending', 'of policy a takes it back just now');
    gate.resolve();
    await world.becomes('a', 'undone');
    clock.offsetMs += 600_000;
    await world.becomes('b', 'done');
    expect(world.of('b')!.steps[0]!.state).toBe('done');
    expect([...machines.out.keys()]).toEqual(['n1']);
  });

  it('do not put a node back whose other GPU is as broken, and waits in the same policy', async () => {
    const world = await open(file());
    await using _ = world;
    const { feed, clock, machines } = world;
    const [one, two] = ['0', '1'].map((gpu) => criticalAlert('n1', clock.now(), { gpu })) as [Alert, Alert];
    feed.say(one);
    await world.becomes('a', 'done');
    feed.say(two);
    const states = () =>
      world.actions
        .list()
        .map(({ state }) => state)
        .sort();
    const become = (...wanted: string[]) =>
      until(() => String(states()) === String(wanted), {
        timeoutMs: 20_000,
        what: String(wanted),
        detail: () => JSON.stringify(world.actions.list().map(({ state, why }) => [state, why])),
      });
    await become('done', 'pending');
    feed.say(resolved(one, clock.now()));
    await become('pending', 'undoing');
    expect([...machines.out.keys()]).toEqual(['n1']);
    feed.say(resolved(two, clock.now()));
    await become('cancelled', 'undoing');
    world.later();
    await become('cancelled', 'undone');
    expect(machines.out.size).toBe(0);
  });
});

const step = { kind: 'drain', takesOut: true, state: 'done', detail: '', attempts: 1, undo: {} } as const;
const action = (id: string, more: object, ofStep: object = {}): ActionDocument =>
  ({
    ...{ id, policy: id, state: 'undoing', target: { cluster: 'east', node: 'n1' }, undoBy: `policy ${id}` },
    ...{ alert: { matchesSinceMs: 1, resolvedAtMs: 1 }, holds: true, actedAtMs: 1 },
    steps: [{ ...step, ...ofStep }],
    ...more,
  }) as unknown as ActionDocument;

describe('who keeps a node as it is', () => {
  const ours = action('m', {});
  const keeps = (other: ActionDocument): boolean => keeperOf(ours, 0, [ours, other]) !== undefined;

  it('is whoever found it so and goes on, and whoever added to it later', () => {
    for (const state of ['pending', 'running', 'done'])
      expect(keeps(action('x', { state }, { state: 'already' }))).toBe(true);
    expect(keeps(action('x', { state: 'done', actedAtMs: 2 }))).toBe(true);
    expect(keeps(action('x', { state: 'undoing', actedAtMs: 2 }))).toBe(true);
  });

  it('is nobody who is on another node, did another thing, is over, or came first: they would wait for ever', () => {
    const already = { state: 'already' };
    for (const state of ['undoing', 'undone', 'failed', 'cancelled'])
      expect(keeps(action('x', { state }, already))).toBe(false);
    expect(keeps(action('x', { state: 'done', holds: false }, already))).toBe(false);
    expect(keeps(action('x', { state: 'done' }, { ...already, kind: 'mark' }))).toBe(false);
    expect(keeps(action('x', { state: 'done', target: { cluster: 'east', node: 'n2' } }, already))).toBe(
      false,
    );
    expect(keeps(action('x', { state: 'done', target: { cluster: 'west', node: 'n1' } }, already))).toBe(
      false,
    );
    expect(keeps(action('x', { state: 'undoing', actedAtMs: 0 }))).toBe(false);
    const twin = action('x', { state: 'undoing' });
    expect([keeps(twin), keeperOf(twin, 0, [ours]) !== undefined].sort()).toEqual([false, true]);
  });

  it('is not told that it is so already by one who takes it back at that moment', () => {
    const mine = action('x', { state: 'running' }, { state: 'running' });
    expect(takerBackOf(mine, 0, [mine, ours])?.id).toBe('m');
    expect(takerBackOf(mine, 0, [mine, action('m', { state: 'done' })])).toBeUndefined();
    const third = action('y', { state: 'done' }, { state: 'already' });
    expect(takerBackOf(mine, 0, [mine, ours, third])).toBeUndefined();
  });
});
