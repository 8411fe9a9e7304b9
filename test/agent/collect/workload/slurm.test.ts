import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { ProcessTable } from '../../../../agent/collect/workload/process-table.ts';
import { SlurmJobs } from '../../../../agent/collect/workload/slurm-jobs.ts';
import { hasSlurm, SlurmCluster } from '../../../support/slurm.ts';

/** Of this run's jobs: a test beside this one has jobs of its own on the same host. */
const NAME = `train-${process.pid}`;
const never = new AbortController().signal;

// Lost without it: attribution on the clusters where most training runs.
describe.skipIf(!hasSlurm())('a real Slurm', () => {
  let cluster: SlurmCluster;
  beforeAll(async () => {
    cluster = await SlurmCluster.start({ gpus: [3, 5, 6] });
  }, 90_000);
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  }, 90_000);

  function jobs(withScontrol: boolean): {
    find: () => Promise<Record<string, unknown[]>>;
    asked: (id: string) => number;
  } {
    // By job: one of the test before may still be ending, and is asked about too.
    const questions: string[] = [];
    const processes = new ProcessTable('/proc');
    const slurm = new SlurmJobs({
      processes,
      scontrol: withScontrol
        ? async (_, args) => {
            questions.push(args.at(-1)!);
            return Buffer.from(await cluster.run('scontrol', ...args));
          }
        : undefined,
      node: cluster.node,
      logger: silentLogger,
    });
    const find = async (): Promise<Record<string, unknown[]>> => {
      const byJob: Record<string, unknown[]> = {};
      for (const { gpu, labels } of (await slurm.find(await processes.read(never), never)).held) {
        const { job_name, slurm_job_id = '' } = labels;
        if (job_name !== NAME) continue;
        byJob[slurm_job_id] ??= [];
        byJob[slurm_job_id].push({ gpu, labels });
      }
      return byJob;
    };
    return { find, asked: (id) => questions.filter((asked) => asked === id).length };
  }

  test('tells which GPUs its jobs have, until they end', async () => {
    const id = await cluster.submit('sleep 300', '--gres=gpu:2', `--job-name=${NAME}`);
    const { find, asked } = jobs(false);
    await cluster.until('the job is seen', async () => id in (await find()));
    const labels = expect.objectContaining({
      workload: 'slurm',
      slurm_job_id: id,
      user: 'root',
      partition: 'gpu',
    });
    expect((await find())[id]).toEqual([
      { gpu: { index: 0 }, labels },
      { gpu: { index: 1 }, labels },
    ]);
    expect(asked(id)).toBe(0);
    await cluster.run('scancel', id);
    await cluster.until('the job is gone', async () => !(id in (await find())));
  }, 120_000);

  test('is asked for the GPUs of a job whose processes do not tell, once', async () => {
    const id = await cluster.submit('exec env -i sleep 300', '--gres=gpu:1', `--job-name=${NAME}`);
    const { find, asked } = jobs(true);
    try {
      // Its shell has an environment that tells, until it has become what has none.
      await cluster.until('the GPU of the job is told', async () => (await find())[id]?.length === 1);
      await find();
      expect(asked(id)).toBeLessThanOrEqual(1);
    } finally {
      await cluster.run('scancel', id);
    }
    await cluster.until('the job is gone', async () => !(id in (await find())));
  }, 120_000);

  test('has nodes that can be drained and resumed', async () => {
    await cluster.run('scontrol', 'update', `NodeName=${cluster.node}`, 'State=DRAIN', 'Reason=test');
    await cluster.until('the node is drained', async () => (await cluster.nodeState()) === 'drained');
    await cluster.run('scontrol', 'update', `NodeName=${cluster.node}`, 'State=RESUME');
    await cluster.until('the node is idle', async () => (await cluster.nodeState()) === 'idle');
  }, 60_000);
});
