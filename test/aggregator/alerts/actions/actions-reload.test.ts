import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import type { Executor, StepOutcome } from '../../../../aggregator/alerts/actions/executor.ts';
import type { ExecutorKind } from '../../../../aggregator/alerts/actions/executors/executor-kind.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { criticalAlert, JumpingClock, resolved, ScriptedFeed, startActions } from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { RecordingMachines } from './recording-machines.ts';

/** A step that says which executors are open, and answers as the test says. */
class Doors {
  readonly open: string[] = [];
  readonly calls: string[] = [];
  answer: () => Promise<StepOutcome> = async () => ({ outcome: 'done', before: {}, after: {}, undo: {} });

  readonly kind: ExecutorKind = {
    schema: v.string('must be a name'),
    takesOut: true,
    undoesUnsure: false,
    open: async (settings) => {
      if (settings === 'broken') throw new Error('its secret cannot be read');
      const name = String(settings);
      this.open.push(name);
      const executor: Executor = {
        kind: 'door',
        preview: async () => 'would',
        execute: () => this.#call(name),
        undo: () => this.#call(`undo ${name}`),
        [Symbol.asyncDispose]: async () => void this.open.splice(this.open.indexOf(name), 1),
      };
      return executor;
    },
  };

  #call(what: string): Promise<StepOutcome> {
    this.calls.push(what);
    return this.answer();
  }
}

const yaml = (mode: string, steps: readonly string[], policy = 'doors') =>
  [
    `mode: ${mode}`,
    'policies:',
    `  - { name: ${policy}, matchers: ['rule=gpu-critical'], mode: live, approval: none, undo: on_resolve,`,
    `      steps: [${steps.map((name) => `door: ${name}`).join(', ')}] }`,
    '',
  ].join('\n');

async function open(text: string) {
  const control = new MemoryBucket().client();
  const folder = tempDir('actions-reload');
  const file = join(folder.path, 'actions.yaml');
  await writeFile(file, text);
  const doors = new Doors();
  const clock = new JumpingClock();
  const feed = new ScriptedFeed();
  const opened = await startActions(text, new RecordingMachines(), control, {
    ...{ file, clock, feed, kinds: { door: doors.kind } },
  });
  const action = () => opened.actions.list()[0];
  return {
    ...{ control, doors, clock, feed, actions: opened.actions, action },
    reload: async (next: string) => {
      await writeFile(file, next);
      return opened.actions.reload();
    },
    is: (state: string, words = '') =>
      until(() => action()?.state === state && action()!.why.includes(words), {
        timeoutMs: 20_000,
        what: `the action is ${state}: ${words}`,
        detail: () => JSON.stringify([action()?.state, action()?.why]),
      }),
    called: (count: number) =>
      until(() => doors.calls.length >= count, { timeoutMs: 20_000, what: `${count} calls` }),
    async [Symbol.asyncDispose]() {
      await opened[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
      expect(doors.open).toEqual([]);
    },
  };
}

describe('an actions file that changed', () => {
  it('stops what has not begun: the emergency stop needs no restart', async () => {
    const world = await open(yaml('live', ['one']));
    await using _ = world;
    expect(await world.reload(yaml('dry_run', ['one']))).toEqual({ ok: true });
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.is('dry_run');
    expect(world.doors.calls).toEqual([]);
  });

  it('stops what has its place in the share and is about to begin', async () => {
    const world = await open(yaml('live', ['one']));
    await using _ = world;
    world.control.beforePut = async (key) => {
      if (!key.startsWith('share/')) return;
      world.control.beforePut = () => {};
      await world.reload(yaml('dry_run', ['one']));
    };
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.is('dry_run');
    await until(() => !world.action()!.holds, { timeoutMs: 20_000, what: 'its place is free' });
    expect(world.doors.calls).toEqual([]);
  });

  it('holds what has begun, once its try has ended, and lets it go on when it is live again', async () => {
    const world = await open(yaml('live', ['one', 'two']));
    await using _ = world;
    const gate = Promise.withResolvers<StepOutcome>();
    world.doors.answer = () => gate.promise;
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.called(1);
    expect(await world.reload(yaml('dry_run', ['one', 'two']))).toEqual({ ok: true });
    gate.resolve({ outcome: 'done', before: {}, after: {}, undo: {} });
    await world.is('pending', 'halted');
    expect(world.action()!.holds).toBe(true);
    expect(world.doors.calls).toEqual(['one']);
    world.clock.offsetMs += 61_000;
    await world.reload(yaml('live', ['one', 'two']));
    await world.is('done');
    expect(world.doors.calls).toEqual(['one', 'two']);
  });

  it('takes nothing back by itself in a dry run', async () => {
    const world = await open(yaml('live', ['one']));
    await using _ = world;
    const alert = criticalAlert('n1', world.clock.now());
    world.feed.say(alert);
    await world.is('done');
    world.doors.answer = async () => ({ outcome: 'retry', why: 'it is away' });
    world.feed.say(resolved(alert, world.clock.now()));
    await world.is('undoing', 'it is away');
    await world.reload(yaml('dry_run', ['one']));
    world.clock.offsetMs += 600_000;
    await world.is('undoing', 'halted');
    const before = world.doors.calls.length;
    world.clock.offsetMs += 600_000;
    await world.is('undoing', 'halted');
    expect(world.doors.calls).toHaveLength(before);
    world.doors.answer = async () => ({ outcome: 'done', before: {}, after: {} });
    await world.reload(yaml('live', ['one']));
    world.clock.offsetMs += 61_000;
    await world.is('undone');
  });

  it('still takes back what a person asks for: it is the way out of an emergency stop', async () => {
    const world = await open(yaml('live', ['one']));
    await using _ = world;
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.is('done');
    await world.reload(yaml('dry_run', ['one']));
    await world.actions.undo(world.action()!.id, 'ada', '');
    await world.is('undone');
    expect(world.doors.calls).toEqual(['one', 'undo one']);
  });

  it('changes nothing where it is bad, and says why', async () => {
    const world = await open(yaml('live', ['one']));
    await using _ = world;
    const bad = await world.reload(yaml('perhaps', ['one']));
    expect(bad).toMatchObject({ ok: false, why: expect.stringContaining('must be dry_run or live') });
    // The first step can be opened and the second cannot: nothing of it is left behind.
    const half = await world.reload(yaml('live', ['two', 'broken']));
    expect(half).toMatchObject({ ok: false, why: expect.stringContaining('its secret cannot be read') });
    expect(world.doors.open).toEqual(['one']);
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.is('done');
    expect(world.doors.calls).toEqual(['one']);
  });

  it('keeps the executors that it still names, and closes others when nobody uses them', async () => {
    const world = await open(yaml('live', ['one', 'two']));
    await using _ = world;
    const gate = Promise.withResolvers<StepOutcome>();
    world.doors.answer = () => gate.promise;
    world.feed.say(criticalAlert('n1', world.clock.now()));
    await world.called(1);
    await world.reload(yaml('live', ['other', 'two']));
    // A step tries with `one` at this moment.
    expect(world.doors.open.toSorted()).toEqual(['one', 'other', 'two']);
    gate.resolve({ outcome: 'done', before: {}, after: {}, undo: {} });
    await world.is('done');
    expect(world.doors.open.toSorted()).toEqual(['other', 'two']);
    expect(world.doors.calls).toEqual(['one', 'two']);
    await world.reload(yaml('live', ['three'], 'renamed'));
    expect(world.doors.open).toEqual(['three']);
  });
});
