import { describe, expect, it } from 'vitest';
import type { AuditFact } from '../../../../aggregator/alerts/audit/audit-entry.ts';
import { seededRandom } from '../../../support/random.ts';
import { until } from '../../../support/wait.ts';
import {
  criticalAlert,
  JumpingClock,
  policyFile,
  resolved,
  ScriptedFeed,
  startActions,
} from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { Mortal } from './mortal.ts';
import { RecordingMachines } from './recording-machines.ts';

const FILE = policyFile(['undo: on_resolve', 'cool_down: 0s'], ['note: true', 'drain: true']);
const LEASE_RUNS_OUT_MS = 31_000;

/** One alert fires and resolves; the first aggregator dies on the way, the second goes on. */
async function story(at: number, before: boolean): Promise<{ died: boolean; touches: number }> {
  const bucket = new MemoryBucket();
  const clock = new JumpingClock();
  const mortal = new Mortal(at, before);
  const machines = new RecordingMachines();
  const first = machines.seenBy(() => mortal.touch(async () => {}));
  const audit: AuditFact[] = [];
  const feed = new ScriptedFeed();
  const sink = { write: async (fact: AuditFact) => void audit.push(fact) };
  const mortalSink = { write: (fact: AuditFact) => mortal.touch(() => sink.write(fact)) };
  const alert = criticalAlert('n1', clock.now());
  feed.say(alert);
  const one = await startActions(FILE, first, mortal.control(bucket.client()), {
    ...{ clock, feed, audit: mortalSink, shard: 'shard-1' },
  });
  const reaches = (state: string) =>
    until(() => mortal.dead || one.actions.list().some((action) => action.state === state), {
      ...{ timeoutMs: 30_000, what: `the first comes to ${state} or dies` },
    });
  await reaches('done');
  if (!mortal.dead) {
    feed.say(resolved(alert, clock.now()));
    await reaches('undone');
    await until(() => mortal.dead || one.actions.list().every(({ nextAtMs }) => nextAtMs === 0), {
      ...{ timeoutMs: 30_000, what: 'it settles or dies' },
    });
  }
  clock.offsetMs += LEASE_RUNS_OUT_MS;
  const two = await startActions(FILE, machines, bucket.client(), {
    ...{ clock, feed, audit: sink, shard: 'shard-2' },
  });
  // Alive, the second sees only now that the lease does not move.
  await until(() => two.actions.list().length > 0, { timeoutMs: 30_000, what: 'the second knows of it' });
  clock.offsetMs += LEASE_RUNS_OUT_MS;
  const settled = (state: string) => {
    // Waits between tries are of the clock that the test sets.
    clock.offsetMs += 1_000;
    return two.actions.list().some((action) => action.state === state && action.outbox.length === 0);
  };
  const detail = (): string => `${at} ${before} ${JSON.stringify(two.actions.list())}`;
  if (!two.actions.list().some(({ state }) => state === 'undone' || state === 'undoing')) {
    await until(() => settled('done'), {
      timeoutMs: 40_000,
      what: 'the second brings it to its end',
      detail,
    });
    expect(machines.out.size).toBe(1);
    feed.say(resolved(alert, clock.now()));
  }
  await until(() => settled('undone'), { timeoutMs: 40_000, what: 'the second undoes it', detail });
  expect(machines.out.size).toBe(0);
  const share = () => JSON.stringify(bucket.documents.get('share/east/a100')!.value);
  await until(() => share() === '{"nodes":{}}', { timeoutMs: 30_000, what: 'its place is free' });
  // Each step changed something once, whoever tried it and how often.
  expect([...machines.effects.values()]).toEqual([1, 1]);
  const said = new Set(audit.map(({ what }) => what));
  for (const what of ['create', 'begin', 'step', 'done', 'undo', 'undo_step', 'undone'])
    expect(said, `${at} ${before}`).toContain(`action.${what}`);
  // The dead one's run never ends: only its process would.
  await two.stop();
  if (!mortal.dead) await one.stop();
  else one.actions[Symbol.asyncDispose]().catch(() => {});
  return { died: mortal.dead, touches: mortal.count };
}

describe('an aggregator that dies', () => {
  it('at any await of an action leaves one that another ends, with no step done twice', async () => {
    const { touches } = await story(Number.POSITIVE_INFINITY, false);
    expect(touches).toBeGreaterThan(20);
    const random = seededRandom(7);
    const points = Array.from({ length: touches }, (_, i) => i + 1);
    const runs = await Promise.all(points.map((at) => story(at, random() < 0.5)));
    expect(runs.filter(({ died }) => died).length).toBeGreaterThan(touches * 0.9);
  });
});
