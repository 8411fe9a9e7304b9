import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Executor, Facts } from '../../../../../aggregator/alerts/actions/executor.ts';
import { kubernetesKind } from '../../../../../aggregator/alerts/actions/executors/kubernetes.ts';
import { type TempDir, tempDir } from '../../../../support/temp.ts';
import { FakeKubernetes } from './fake-kubernetes.ts';
import { contextOf, depsOf, inTime, TARGET } from './fixtures.ts';

const TAINT = { key: 'gpufleet/sick', value: 'xid', effect: 'NoSchedule' };
const OTHERS = { key: 'theirs', value: '', effect: 'NoExecute' };

let fake: FakeKubernetes;
let dir: TempDir;
beforeEach(async () => {
  fake = await FakeKubernetes.start();
  dir = tempDir('kubernetes');
  await writeFile(join(dir.path, 'token'), `${fake.token}\n`);
});
afterEach(async () => {
  await fake[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

async function open(settings: object): Promise<Executor> {
  const access = {
    api: fake.url,
    ca_file: fake.authority.ca,
    token_file: join(dir.path, 'token'),
    timeout: '5s',
  };
  return await kubernetesKind.open(v.parse(kubernetesKind.schema, { ...access, ...settings }), depsOf());
}

async function executed(executor: Executor, stepId = 'step-1') {
  return await executor.execute(TARGET, contextOf(stepId), inTime());
}

async function undoOf(executor: Executor): Promise<Facts> {
  const outcome = await executed(executor);
  if (outcome.outcome !== 'done' || !outcome.undo) throw new Error(`not done: ${JSON.stringify(outcome)}`);
  return outcome.undo;
}

describe('cordon and taint', () => {
  // Lost without it: jobs go on landing on a GPU that has failed, or another's taint is wiped.
  test('are one change that leaves all else of the node, and undo takes back that alone', async () => {
    fake.node.spec.taints = [OTHERS];
    await using executor = await open({ taint: TAINT });
    const undo = await undoOf(executor);
    expect(fake.changes).toBe(1);
    expect(fake.node.spec).toEqual({ unschedulable: true, taints: [OTHERS, TAINT] });
    expect(fake.node.annotations.kept).toBe('yes');
    expect(await executor.undo(TARGET, contextOf(), undo, inTime())).toMatchObject({ outcome: 'done' });
    expect(fake.node.spec).toEqual({ taints: [OTHERS] });
    expect(fake.node.annotations).toEqual({ kept: 'yes' });
  });

  // Lost without it: our undo puts a node back into service that a person took out.
  test("a person's cordon is left alone, and so by undo", async () => {
    fake.node.spec.unschedulable = true;
    await using executor = await open({});
    expect(await executed(executor)).toMatchObject({ outcome: 'already', before: { unschedulable: true } });
    expect(await executor.undo(TARGET, contextOf(), {}, inTime())).toMatchObject({ outcome: 'already' });
    expect(fake.changes).toBe(0);
    expect(fake.node.spec.unschedulable).toBe(true);
  });

  // Lost without it: the undo fails, and a node that is gone keeps its place in the share for ever.
  test('of a node that left the cluster need not be taken back; a proxy that knows no such page says nothing', async () => {
    await using executor = await open({});
    const undo = await undoOf(executor);
    fake.fail('GET', /nodes/, 404, 'page not found');
    expect(await executor.undo(TARGET, contextOf(), undo, inTime())).toMatchObject({ outcome: 'failed' });
    fake.fail('GET', /nodes/, 404, 'nodes "node-a" not found');
    expect(await executor.undo(TARGET, contextOf(), undo, inTime())).toMatchObject({ outcome: 'already' });
  });

  test('of two steps each takes back its own', async () => {
    await using cordon = await open({});
    await using taint = await open({ cordon: false, taint: TAINT });
    const undo = await undoOf(cordon);
    expect(await executed(taint, 'step-2')).toMatchObject({ outcome: 'done' });
    await cordon.undo(TARGET, contextOf(), undo, inTime());
    expect(fake.node.spec).toEqual({ taints: [TAINT] });
    await taint.undo(TARGET, contextOf('step-2'), {}, inTime());
    expect(fake.node.spec).toEqual({ taints: [] });
  });

  // Lost without it: a crash between doing and writing down leaves the node out of service for ever.
  test('undo needs no facts, and finds a node that has another name there', async () => {
    await using executor = await open({ node_names: { 'gpu-01.dc.example': 'node-a' } });
    const target = { ...TARGET, node: 'gpu-01.dc.example' };
    expect(await executor.execute(target, contextOf(), inTime())).toMatchObject({ outcome: 'done' });
    expect(fake.node.spec.unschedulable).toBe(true);
    expect(await executor.undo(target, contextOf(), {}, inTime())).toMatchObject({ outcome: 'done' });
    expect(fake.node.spec.unschedulable).toBeUndefined();
  });

  // Lost without it: a controller's taint, written between our read and our patch, is gone.
  test('a change that somebody else makes meanwhile is seen, not overwritten', async () => {
    let once = true;
    fake.beforePatch = () => {
      if (!once) return;
      once = false;
      fake.node.resourceVersion++;
      fake.node.spec.taints = [OTHERS];
    };
    await using executor = await open({ taint: TAINT });
    expect(await executed(executor)).toMatchObject({ outcome: 'done' });
    expect(fake.node.spec.taints).toEqual([OTHERS, TAINT]);
  });

  test('a node that others change without end is tried again later', async () => {
    fake.beforePatch = () => void fake.node.resourceVersion++;
    await using executor = await open({});
    expect(await executed(executor)).toMatchObject({
      outcome: 'retry',
      why: expect.stringContaining('others changed'),
    });
  });
});

describe('the API server', () => {
  // Lost without it: a step that can never succeed is tried for ever, or one that could is given up.
  test.each([
    [403, 'failed', 'nodes "node-a" is forbidden: User cannot patch resource "nodes"'],
    [404, 'failed', 'nodes "node-a" not found'],
    [422, 'failed', 'Node is invalid'],
    [429, 'retry', 'too many requests'],
    [500, 'retry', 'etcdserver: leader changed'],
    [503, 'retry', 'apiserver is shutting down'],
  ])('answering %i is a step that has %s, with its words', async (code, outcome, message) => {
    fake.fail('GET', /nodes/, code, message);
    await using executor = await open({});
    expect(await executed(executor)).toMatchObject({ outcome, why: expect.stringContaining(message) });
  });

  test('that is away is tried again, and a node that it does not know is not', async () => {
    await using executor = await open({});
    fake.silence();
    expect(await executed(executor)).toMatchObject({
      outcome: 'retry',
      why: expect.stringContaining('no answer'),
    });
  });

  // Lost without it: an hour after its start, when the kubelet has rotated the token, nothing is drained any more.
  test('a rotated token is read again', async () => {
    await using executor = await open({});
    fake.token = 'another-token';
    expect(await executed(executor)).toMatchObject({ outcome: 'retry', why: expect.stringContaining('401') });
    await writeFile(join(dir.path, 'token'), 'another-token');
    expect(await executed(executor)).toMatchObject({ outcome: 'done' });
  });

  // Lost without it: the token of an account that can drain the cluster goes to whoever answers.
  test('with a certificate of another authority hears no token', async () => {
    await using stranger = await FakeKubernetes.start();
    await using executor = await open({ ca_file: stranger.authority.ca });
    expect(await executed(executor)).toMatchObject({
      outcome: 'retry',
      why: expect.stringMatching(/certificate|issuer/),
    });
    expect(fake.changes).toBe(0);
    expect(v.safeParse(kubernetesKind.schema, { api: 'http://127.0.0.1:8001' }).success).toBe(false);
  });

  test.each(['../../secrets', 'node-a/status', 'a b', '-a', 'ALL', ''])(
    'is not asked about a node called %j',
    async (node) => {
      await using executor = await open({});
      const outcome = await executor.execute({ ...TARGET, node }, contextOf(), inTime());
      expect(outcome).toMatchObject({ outcome: 'failed', why: expect.stringContaining('no name') });
    },
  );
});

describe('drain', () => {
  // Lost without it: jobs die with the GPU, or what must stay on the node is evicted.
  test('evicts pods of controllers once, waits until they are gone, and leaves those of the node', async () => {
    fake.pageSize = 2;
    fake.pods = [
      { name: 'exporter', owner: 'DaemonSet' },
      { name: 'static', mirror: true },
      { name: 'over', owner: 'Job', phase: 'Succeeded' },
      { name: 'train', owner: 'Job' },
      { name: 'serve', owner: 'ReplicaSet' },
    ];
    await using executor = await open({ drain: { grace: '30s' } });
    expect(await executed(executor)).toMatchObject({
      outcome: 'waiting',
      why: expect.stringContaining('2 pods run on'),
    });
    expect(fake.evicted.map(({ name }) => name)).toEqual(['train', 'serve']);
    expect(fake.evicted[0]!.body).toMatchObject({
      metadata: { name: 'train', namespace: 'ml' },
      deleteOptions: { gracePeriodSeconds: 30, preconditions: { uid: 'uid-train' } },
    });
    expect(await executed(executor)).toMatchObject({ outcome: 'waiting' });
    expect(await executed(executor)).toMatchObject({ outcome: 'done', undo: { cordoned: true } });
    expect(fake.evicted).toHaveLength(2);
    expect(fake.pods.map(({ name }) => name)).toEqual(['exporter', 'static', 'over']);
  });

  // Lost without it: a service loses more replicas at once than its owner allowed.
  test('goes on with the others where one pod cannot be evicted', async () => {
    fake.pods = [
      { name: 'two-budgets', owner: 'ReplicaSet' },
      { name: 'other', owner: 'ReplicaSet' },
    ];
    fake.fail('POST', /two-budgets/, 500, 'This pod has more than one PodDisruptionBudget');
    await using executor = await open({ drain: true });
    const outcome = await executed(executor);
    expect(outcome).toMatchObject({
      outcome: 'waiting',
      why: expect.stringMatching(/more than one PodDisruptionBudget.*ml\/two-budgets/),
    });
    expect(fake.evicted.map(({ name }) => name)).toEqual(['other']);
  });

  test('waits for a disruption budget as long as the server says, and says which pod it holds', async () => {
    fake.pods = [{ name: 'serve', owner: 'ReplicaSet', budget: 1 }];
    await using executor = await open({ drain: true });
    const outcome = await executed(executor);
    expect(outcome).toMatchObject({ outcome: 'waiting', afterMs: 10_000 });
    expect(outcome).toMatchObject({ why: expect.stringMatching(/disruption budget.*ml\/serve/) });
    expect(await executed(executor)).toMatchObject({
      outcome: 'waiting',
      why: expect.stringContaining('ending'),
    });
    expect(fake.evicted).toHaveLength(1);
  });

  // Lost without it: somebody's notebook, which nothing starts again.
  test('lets a pod without a controller run to its end, unless it was said otherwise', async () => {
    fake.pods = [{ name: 'notebook' }];
    await using careful = await open({ drain: true });
    expect(await executed(careful)).toMatchObject({
      outcome: 'waiting',
      why: expect.stringContaining('no controller'),
    });
    expect(fake.evicted).toEqual([]);
    await using thorough = await open({ drain: { unmanaged: true } });
    expect(await executed(thorough)).toMatchObject({ outcome: 'waiting' });
    expect(fake.evicted).toHaveLength(1);
  });

  test('a list that expires between two pages is begun anew', async () => {
    fake.pageSize = 1;
    fake.pods = [
      { name: 'exporter', owner: 'DaemonSet' },
      { name: 'static', mirror: true },
    ];
    await using executor = await open({ drain: true });
    const expired = 'The provided continue parameter is too old to display a consistent list result';
    let pages = 0;
    fake.faults.push({
      method: 'GET',
      message: expired,
      status: 410,
      times: 1,
      // The second page.
      path: { test: (path: string) => path === '/api/v1/pods' && ++pages === 2 } as RegExp,
    });
    expect(await executed(executor)).toMatchObject({ outcome: 'done' });
    expect(pages).toBeGreaterThanOrEqual(2);
  });

  test('an eviction that is not allowed fails with the pod and the words, and the node stays cordoned', async () => {
    fake.pods = [{ name: 'train', owner: 'Job' }];
    fake.fail('POST', /eviction/, 403, 'cannot create resource "pods/eviction"');
    await using executor = await open({ drain: true });
    const why = expect.stringMatching(/ml\/train.*pods\/eviction/);
    expect(await executed(executor)).toMatchObject({ outcome: 'failed', why });
    expect(fake.node.spec.unschedulable).toBe(true);
  });
});

test('settings that would do nothing, or evict from a node that is open, are faults', () => {
  for (const settings of [
    { cordon: false },
    { cordon: false, drain: true },
    { taint: { ...TAINT, effect: 'x' } },
  ])
    expect(v.safeParse(kubernetesKind.schema, settings).success).toBe(false);
});
