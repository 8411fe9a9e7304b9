import { describe, expect, it } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { ActionState } from '../../../../aggregator/alerts/actions/action-document.ts';
import { until } from '../../../support/wait.ts';
import {
  criticalAlert,
  JumpingClock,
  type OpenedActions,
  policyFile,
  resolved,
  ScriptedFeed,
  startActions,
} from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { RecordingMachines } from './recording-machines.ts';

const HOUR_MS = 3_600_000;

function world() {
  const bucket = new MemoryBucket();
  return {
    bucket,
    control: bucket.client(),
    clock: new JumpingClock(),
    feed: new ScriptedFeed(),
    machines: new RecordingMachines(),
    registry: createRegistry(),
  };
}

type World = ReturnType<typeof world>;

function start(it: World, lines: string[] = [], steps?: string[], more = {}): Promise<OpenedActions> {
  const { control, clock, feed, registry } = it;
  return startActions(policyFile(lines, steps), it.machines, control, { clock, feed, registry, ...more });
}

const reaches = ({ actions }: OpenedActions, state: ActionState, count = 1) =>
  until(() => actions.list({ state }).length >= count, {
    timeoutMs: 20_000,
    what: `${count} actions are ${state}`,
    detail: () => JSON.stringify(actions.list().map((one) => [one.target.node, one.state, one.why])),
  });

const waitsFor = ({ actions }: OpenedActions, words: string) =>
  until(() => actions.list().some(({ why }) => why.includes(words)), {
    timeoutMs: 20_000,
    what: `an action waits for "${words}"`,
    detail: () => JSON.stringify(actions.list().map((one) => [one.target.node, one.state, one.why])),
  });

const audited = ({ audit }: OpenedActions, what: string) =>
  until(() => audit.find((fact) => fact.what === what), { timeoutMs: 20_000, what: `${what} is audited` });

describe('actions', () => {
  it('drains the node of a critical alert, and says what it was before and after', async () => {
    const it = world();
    await using opened = await start(it);
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await reaches(opened, 'done');
    expect([...it.machines.out.keys()]).toEqual(['n1']);
    const step = await audited(opened, 'action.step');
    expect(step).toMatchObject({ who: 'policy drain-critical', cluster: 'east', node: 'n1', result: 'done' });
    expect(step).toMatchObject({ before: { state: 'idle' }, after: { state: 'drained' } });
    await audited(opened, 'action.done');
    expect(opened.audit.map(({ what }) => what)).toEqual([
      'action.create',
      'action.begin',
      'action.step',
      'action.done',
    ]);
  });

  it.each(['mode: dry_run', 'file'])('touches nothing unless both levels are live (%s)', async (level) => {
    const it = world();
    const yaml = policyFile(level === 'file' ? [] : [level]).replace(
      'mode: live',
      level === 'file' ? 'mode: dry_run' : 'mode: live',
    );
    await using opened = await startActions(yaml, it.machines, it.control, {
      clock: it.clock,
      feed: it.feed,
    });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await reaches(opened, 'dry_run');
    await audited(opened, 'action.dry_run');
    expect(opened.actions.list()[0]!.why).toContain('would drain n1');
    expect(it.machines.calls).toEqual([]);
  });

  it('waits for an approval by name, and is cancelled without one after a day', async () => {
    const it = world();
    await using opened = await start(it, ['approval: required']);
    it.feed.say(criticalAlert('n1', it.clock.now()));
    it.feed.say(criticalAlert('n2', it.clock.now()));
    await reaches(opened, 'awaiting_approval', 2);
    expect(it.machines.calls).toEqual([]);
    const [first] = opened.actions.list({ node: 'n1' });
    await opened.actions.approve(first!.id, 'ada', 'seen it');
    await reaches(opened, 'done');
    expect(opened.actions.list({ node: 'n1' })[0]!.decidedBy).toBe('ada');
    expect(await audited(opened, 'action.approve')).toMatchObject({ who: 'ada', why: 'seen it' });
    await expect(opened.actions.approve(first!.id, 'ada', '')).rejects.toThrow('it is done');
    await expect(opened.actions.approve('nothing', 'ada', '')).rejects.toThrow('there is none');
    it.clock.offsetMs += 24 * HOUR_MS + 1_000;
    await reaches(opened, 'cancelled');
    expect([...it.machines.out.keys()]).toEqual(['n1']);
  });

  it('does nothing that an operator rejected', async () => {
    const it = world();
    await using opened = await start(it, ['approval: required']);
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await reaches(opened, 'awaiting_approval');
    await opened.actions.reject(opened.actions.list()[0]!.id, 'ada', 'in use');
    expect(await audited(opened, 'action.reject')).toMatchObject({ who: 'ada' });
    expect(opened.actions.list()[0]).toMatchObject({ state: 'cancelled', decidedBy: 'ada' });
    expect(it.machines.calls).toEqual([]);
  });

  it('waits out `for`, and is cancelled where the alert resolves before', async () => {
    const it = world();
    await using opened = await start(it, ['for: 10m']);
    const short = criticalAlert('n1', it.clock.now());
    it.feed.say(short);
    it.feed.say(criticalAlert('n2', it.clock.now()));
    await waitsFor(opened, 'must fire for 600 s');
    it.feed.say(resolved(short, it.clock.now()));
    await reaches(opened, 'cancelled');
    it.clock.offsetMs += 11 * 60_000;
    await reaches(opened, 'done');
    expect(it.machines.calls).toEqual(['drain n2']);
  });

  it('never takes out more than the share, and goes on when a node comes back', async () => {
    const it = world();
    await using opened = await start(it, ['max_share: 0.02', 'undo: on_resolve'], undefined, {
      nodesOfPool: () => 100,
    });
    const alerts = ['n1', 'n2', 'n3'].map((node) => criticalAlert(node, it.clock.now()));
    for (const alert of alerts) it.feed.say(alert);
    await reaches(opened, 'done', 2);
    await waitsFor(opened, '2 of 100 nodes of pool a100 are out, and policy drain-critical allows 2');
    expect(it.machines.out.size).toBe(2);
    expect(await it.registry.getSingleMetricAsString('gpufleet_nodes_taken_out')).toContain(
      '{pool="a100"} 2',
    );
    const waiting = opened.actions.list({ state: 'pending' })[0]!.target.node;
    const back = alerts.find(({ node }) => node !== waiting)!;
    it.feed.say(resolved(back, it.clock.now()));
    await until(() => it.machines.out.has(waiting), { timeoutMs: 20_000, what: 'the third has its turn' });
    expect(it.machines.out.size).toBe(2);
  });

  it('counts nodes that operators took out themselves', async () => {
    const it = world();
    await using opened = await start(it, ['max_share: 0.02'], undefined, {
      outOtherwise: () => ['x1', 'x2'],
    });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await waitsFor(opened, '2 of 100 nodes');
    expect(it.machines.calls).toEqual([]);
  });

  it('gives the place of a node free that an operator put back', async () => {
    const it = world();
    await using opened = await start(it, ['max_share: 0.01']);
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await reaches(opened, 'done');
    it.feed.say(criticalAlert('n2', it.clock.now()));
    await waitsFor(opened, '1 of 100 nodes');
    it.machines.out.clear();
    expect(await opened.actions.nodeCleared('east', 'n1', 'ada', 'swapped')).toBe(1);
    await reaches(opened, 'done', 2);
    expect([...it.machines.out.keys()]).toEqual(['n2']);
    expect(await audited(opened, 'action.release')).toMatchObject({ who: 'ada', node: 'n1' });
  });

  it('asks once for a node with eight critical GPUs, and cools down after it', async () => {
    const it = world();
    await using opened = await start(it, ['approval: required', 'cool_down: 6h']);
    for (let gpu = 0; gpu < 8; gpu++) it.feed.say(criticalAlert('n1', it.clock.now(), { gpu: String(gpu) }));
    await reaches(opened, 'awaiting_approval');
    await reaches(opened, 'pending', 7);
    await waitsFor(opened, 'of the same policy is at work on this node');
    await opened.actions.approve(opened.actions.list({ state: 'awaiting_approval' })[0]!.id, 'ada', '');
    await reaches(opened, 'done');
    await waitsFor(opened, 'cools down on this node until');
    expect(opened.actions.list({ state: 'awaiting_approval' })).toEqual([]);
    it.clock.offsetMs += 7 * HOUR_MS;
    await reaches(opened, 'awaiting_approval');
  });

  it('says pending with the reason while a scheduler is away, audits it once, and goes on', async () => {
    const it = world();
    let away = true;
    it.machines.answer = () =>
      away ? { outcome: 'retry', why: `no answer from slurmctld, port ${Math.random()}` } : undefined;
    await using opened = await start(it, [], undefined, { random: () => 0.01 });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await waitsFor(opened, 'drain: no answer from slurmctld');
    await until(() => it.machines.calls.length >= 4, { timeoutMs: 20_000, what: 'it is tried again' });
    expect(opened.actions.list()[0]!.state).toMatch(/pending|running/);
    expect(opened.audit.filter(({ result }) => result === 'retry')).toHaveLength(1);
    expect(await it.registry.getSingleMetricAsString('gpufleet_action_retries_total')).toMatch(
      /kind="drain"} [3-9]/,
    );
    away = false;
    await reaches(opened, 'done');
    expect([...it.machines.out.keys()]).toEqual(['n1']);
  });

  it('is not drained when a scheduler comes back after the alert resolved', async () => {
    const it = world();
    let away = true;
    it.machines.answer = () => (away ? { outcome: 'retry', why: 'away' } : undefined);
    await using opened = await start(it, [], undefined, { random: () => 0.01 });
    const alert = criticalAlert('n1', it.clock.now());
    it.feed.say(alert);
    await waitsFor(opened, 'drain: away');
    it.feed.say(resolved(alert, it.clock.now()));
    await reaches(opened, 'undoing');
    away = false;
    await reaches(opened, 'undone');
    expect(it.machines.out.size).toBe(0);
    await until(() => it.bucket.documents.get('share/east/a100')?.value, {
      timeoutMs: 5_000,
      what: 'a share',
    });
    expect(it.bucket.documents.get('share/east/a100')!.value).toEqual({ nodes: {} });
  });

  it('fails with what to do, tells of it, and gives the place back', async () => {
    const it = world();
    it.machines.answer = () => ({ outcome: 'failed', why: 'no such node' });
    const failed: string[] = [];
    await using opened = await start(it, [], undefined, {
      onFailed: ({ why }: { why: string }) => failed.push(why),
    });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await reaches(opened, 'failed');
    expect(failed).toEqual(['drain: no such node']);
    await until(() => opened.actions.list().every(({ holds }) => !holds), {
      timeoutMs: 10_000,
      what: 'the place is free',
    });
    expect(it.bucket.documents.get('share/east/a100')!.value).toEqual({ nodes: {} });
  });

  it('waits for a checkpoint to be written before it drains', async () => {
    const it = world();
    let written = false;
    it.machines.answer = (kind) =>
      kind === 'note' && !written ? { outcome: 'waiting', why: 'being written', afterMs: 100 } : undefined;
    await using opened = await start(it, [], ['note: true', 'drain: true']);
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await until(() => it.machines.calls.length >= 3, { timeoutMs: 20_000, what: 'it is asked again' });
    expect(it.machines.out.size).toBe(0);
    expect(opened.actions.list()[0]).toMatchObject({ state: 'running', why: 'note: being written' });
    written = true;
    await reaches(opened, 'done');
    expect([...it.machines.out.keys()]).toEqual(['n1']);
  });

  it('undoes on resolve where the policy says so, and by a person otherwise', async () => {
    const it = world();
    await using opened = await start(it, ['undo: by_hand'], ['note: true', 'drain: true']);
    const alert = criticalAlert('n1', it.clock.now());
    it.feed.say(alert);
    await reaches(opened, 'done');
    it.feed.say(resolved(alert, it.clock.now()));
    it.feed.say(criticalAlert('n2', it.clock.now()));
    await reaches(opened, 'done', 2);
    expect(it.machines.out.size).toBe(2);
    await opened.actions.undo(opened.actions.list({ node: 'n1' })[0]!.id, 'ada', 'repaired');
    await reaches(opened, 'undone');
    expect([...it.machines.out.keys()]).toEqual(['n2']);
    expect(await audited(opened, 'action.undo_step')).toMatchObject({ who: 'ada' });
    expect(opened.actions.list({ node: 'n1' })[0]!.why).toBe('undone, but for what cannot be: note');
  });

  it('finds an alert whose message was lost, and one that fired while there was no room', async () => {
    const it = world();
    const alert = criticalAlert('n1', it.clock.now());
    it.feed.say(alert, true);
    await using opened = await start(it);
    await reaches(opened, 'done');
    expect([...it.machines.out.keys()]).toEqual(['n1']);
  });

  it('does nothing while the control store or the audit log is away', async () => {
    const it = world();
    it.control.state = 'away';
    let broken = true;
    const audit = {
      write: async () => {
        if (broken) throw new Error('disk full');
      },
    };
    await using opened = await start(it, [], undefined, { audit });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    expect(opened.actions.list()).toEqual([]);
    it.control.state = 'shared';
    await until(() => opened.actions.list().length > 0, { timeoutMs: 20_000, what: 'the action is made' });
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(it.machines.calls).toEqual([]);
    broken = false;
    await reaches(opened, 'done');
  });

  it('waits while the severity has fallen, and acts when it rises again', async () => {
    const it = world();
    await using opened = await start(it, ['for: 10m']);
    const alert = criticalAlert('n1', it.clock.now());
    it.feed.say(alert);
    await waitsFor(opened, 'must fire for');
    it.feed.say({ ...alert, severity: Severity.WARNING, transition: 2n });
    await waitsFor(opened, 'does not match the policy any more');
    it.clock.offsetMs += HOUR_MS;
    it.feed.say(criticalAlert('n1', it.clock.now(), { startedAt: alert.startedAt!, transition: 3n }));
    await waitsFor(opened, 'must fire for');
    it.clock.offsetMs += HOUR_MS;
    await reaches(opened, 'done');
  });

  it('leaves a node alone whose alert people have silenced', async () => {
    const it = world();
    const silences = { covering: () => ['5f0c'] };
    await using opened = await start(it, [], undefined, { silences });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await waitsFor(opened, 'silenced (5f0c)');
    expect(it.machines.calls).toEqual([]);
  });

  it('leaves a node alone while another alert speaks for its own, and acts when that is over', async () => {
    const it = world();
    let by = ['77aa'];
    const inhibitions = { inhibiting: () => by };
    await using opened = await start(it, [], undefined, { inhibitions });
    it.feed.say(criticalAlert('n1', it.clock.now()));
    await waitsFor(opened, 'inhibited (77aa)');
    expect(it.machines.calls).toEqual([]);
    by = [];
    it.clock.offsetMs += 61_000;
    await reaches(opened, 'done');
  });
});
