import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Executor } from '../../../../../aggregator/alerts/actions/executor.ts';
import { slurmKind } from '../../../../../aggregator/alerts/actions/executors/slurm.ts';
import { hasSlurm, SlurmCluster } from '../../../../support/slurm.ts';
import { tempDir } from '../../../../support/temp.ts';
import { contextOf, depsOf, inTime, TARGET } from './fixtures.ts';

async function open(settings: object): Promise<Executor> {
  return await slurmKind.open(v.parse(slurmKind.schema, settings), depsOf());
}

// Lost without it: jobs go on landing on a node with a failed GPU, or our resume undoes what a person did.
describe.skipIf(!hasSlurm())('a real Slurm', () => {
  let cluster: SlurmCluster;
  let executor: Executor;
  beforeAll(async () => {
    cluster = await SlurmCluster.start({ gpus: [0] });
    const { LD_LIBRARY_PATH, SLURM_CONF } = cluster.env;
    executor = await open({
      drain: true,
      command: join(cluster.folder, 'bin', 'scontrol'),
      environment: { LD_LIBRARY_PATH, SLURM_CONF },
      timeout: '60s',
    });
  }, 90_000);
  afterEach(async () => {
    if ((await node()).includes('DRAIN')) await operator('State=RESUME');
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  }, 90_000);

  const operator = (...changes: string[]) =>
    cluster.run('scontrol', 'update', `NodeName=${cluster.node}`, ...changes);
  const execute = (stepId?: string) => executor.execute(TARGET, contextOf(stepId), inTime());
  const undo = (stepId?: string) =>
    executor.undo(TARGET, contextOf(stepId), { node: cluster.node }, inTime());
  const node = () => cluster.run('scontrol', 'show', 'node', '-o', cluster.node);

  test('drains with our reason, is done when done again, and resumes', { timeout: 60_000 }, async () => {
    expect(await executor.preview(TARGET, contextOf(), inTime())).toMatch(
      /would drain node-a.*now it is IDLE/,
    );
    expect(await node()).not.toContain('DRAIN');
    const first = await execute();
    expect(first).toMatchObject({ outcome: 'done', undo: { node: 'node-a' } });
    expect(first).toMatchObject({ before: { state: expect.not.stringContaining('DRAIN') } });
    expect(await node()).toMatch(/Reason=gpufleet step-1: GPU 3 fell off the bus \(Xid 79\) \[/);
    expect(await execute()).toMatchObject({ outcome: 'done', before: {}, undo: { node: 'node-a' } });
    expect(await execute('step-2')).toMatchObject({ outcome: 'already' });
    expect(await undo('step-2')).toMatchObject({ outcome: 'already' });
    expect(await node()).toContain('DRAIN');
    expect(await undo()).toMatchObject({ outcome: 'done', before: { by: 'root' } });
    expect(await node()).not.toContain('DRAIN');
    expect(await undo()).toMatchObject({ outcome: 'already' });
  });

  test("leaves a person's drain alone, and one whose reason a person changed", {
    timeout: 60_000,
  }, async () => {
    await operator('State=DRAIN', 'Reason=memory swap by anna');
    expect(await execute()).toMatchObject({ outcome: 'already', before: { reason: 'memory swap by anna' } });
    expect(await executor.preview(TARGET, contextOf(), inTime())).toContain('would leave node-a as it is');
    await operator('State=RESUME');
    expect(await execute()).toMatchObject({ outcome: 'done' });
    await operator('Reason=mine now, anna');
    expect(await undo()).toMatchObject({ outcome: 'already', before: { reason: 'mine now, anna' } });
    expect(await node()).toMatch(/DRAIN.*Reason=mine now, anna/);
  });

  test('a node that a person took down stays down when the drain is taken back', {
    timeout: 60_000,
  }, async () => {
    await operator('State=DOWN', 'Reason=on fire');
    expect(await execute()).toMatchObject({ outcome: 'done' });
    expect(await node()).toMatch(/State=DOWN\S*DRAIN/);
    expect(await undo()).toMatchObject({ outcome: 'done' });
    expect(await node()).toMatch(/State=DOWN(?!\S*DRAIN)/);
    await operator('State=RESUME');
  });

  test('a job on the node runs on to its end', { timeout: 90_000 }, async () => {
    const done = join(cluster.folder, 'done');
    const go = join(cluster.folder, 'go');
    const job = await cluster.submit(
      `until [ -e ${go} ]; do sleep 0.1; done; echo yes > ${done}`,
      '--gres=gpu:1',
    );
    await cluster.until('the job runs', async () => (await cluster.jobState(job)) === 'RUNNING');
    expect(await execute()).toMatchObject({ outcome: 'done' });
    expect(await cluster.nodeState()).toBe('draining');
    expect(await cluster.jobState(job)).toBe('RUNNING');
    await writeFile(go, '');
    await cluster.until('the job ends', async () => (await cluster.jobState(job)) === 'COMPLETED');
    expect(await readFile(done, 'utf8')).toBe('yes\n');
    await cluster.until('the node is drained', async () => (await cluster.nodeState()).startsWith('drained'));
  });

  test('a node that Slurm does not know fails, with its words', { timeout: 60_000 }, async () => {
    const outcome = await executor.execute({ ...TARGET, node: 'node-x' }, contextOf(), inTime());
    expect(outcome).toMatchObject({ outcome: 'failed', why: expect.stringContaining('node-x not found') });
  });

  test('without slurmctld it is tried again, and done when it is back', { timeout: 120_000 }, async () => {
    await cluster.killController();
    expect(await execute()).toMatchObject({
      outcome: 'retry',
      why: expect.stringContaining('Unable to contact'),
    });
    const preview = await executor.preview(TARGET, contextOf(), inTime());
    expect(preview).toContain('cannot be seen');
    await cluster.startController();
    expect(await execute()).toMatchObject({ outcome: 'done' });
    expect(await node()).toContain('gpufleet step-1');
    // The node has not registered yet: Slurm would refuse to resume it, and forget the drain and its reason.
    await cluster.until('it is taken back', async () => (await undo()).outcome === 'done');
    expect(await node()).not.toContain('DRAIN');
  });
});

/** A scontrol that says what it is told to, and keeps how it was called. */
async function stand(folder: string, script: string): Promise<string> {
  const file = join(folder, 'scontrol');
  await writeFile(file, `#!/bin/sh\necho "$@" >> ${folder}/calls\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}

describe('scontrol', () => {
  // Lost without it: `a[1-99]`, `a,b` or ALL would drain a whole cluster with one alert.
  test.each(['ALL', 'all', 'node[1-3]', 'a,b', 'a b', '-x', 'a;reboot', '$(reboot)', '', 'a\nb'])(
    'is not run for a node called %j',
    async (node) => {
      await using dir = tempDir('scontrol');
      await using executor = await open({ command: await stand(dir.path, 'exit 0') });
      const outcome = await executor.execute({ ...TARGET, node }, contextOf(), inTime());
      expect(outcome).toMatchObject({ outcome: 'failed' });
      await expect(readFile(join(dir.path, 'calls'))).rejects.toThrow('ENOENT');
    },
  );

  test.each([
    [
      '23.02 and later',
      '{"name":"node-a","state":["IDLE","DRAIN"],"reason":"bad [fan]","reason_set_by_user":"anna"}',
    ],
    [
      '22.05',
      '{"name":"node-a","state":"idle","state_flags":["DRAIN"],"reason":"bad [fan]","reason_set_by_user":"anna"}',
    ],
  ])('its JSON is read where it has it: %s', async (_, node) => {
    await using dir = tempDir('scontrol');
    await using executor = await open({ command: await stand(dir.path, `echo '{"nodes":[${node}]}'`) });
    const outcome = await executor.execute(TARGET, contextOf(), inTime());
    expect(outcome).toMatchObject({ outcome: 'already', before: { reason: 'bad [fan]', by: 'anna' } });
    expect((await readFile(join(dir.path, 'calls'), 'utf8')).split('\n')).toHaveLength(2);
  });

  test('has another name for the node where that was said', async () => {
    await using dir = tempDir('scontrol');
    const command = await stand(dir.path, 'echo "Node $4 not found"; exit 1');
    for (const [node_names, name] of [
      ['short', 'gpu-01'],
      [{ 'gpu-01.dc.example': 'n17' }, 'n17'],
    ] as const) {
      await using executor = await open({ command, node_names });
      await executor.execute({ ...TARGET, node: 'gpu-01.dc.example' }, contextOf(), inTime());
      expect(await readFile(join(dir.path, 'calls'), 'utf8')).toContain(` ${name} `);
    }
  });

  test('that is not there fails; that hangs is tried again', async () => {
    await using dir = tempDir('scontrol');
    await using missing = await open({ command: join(dir.path, 'none') });
    expect(await missing.execute(TARGET, contextOf(), inTime())).toMatchObject({ outcome: 'failed' });
    await using hanging = await open({ command: await stand(dir.path, 'exec sleep 600'), timeout: '1s' });
    expect(await hanging.execute(TARGET, contextOf(), inTime())).toMatchObject({ outcome: 'retry' });
  });
});
