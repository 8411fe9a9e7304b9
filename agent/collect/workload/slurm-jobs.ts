import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { type GpuName, gpuNameOf, type Holding } from './holding.ts';
import { descendants, type ProcessEntry, type ProcessTable } from './process-table.ts';
import { parseScontrolJob } from './scontrol.ts';

/** Runs `scontrol` with these arguments. */
export type Scontrol = (signal: AbortSignal, args: readonly string[]) => Promise<Buffer>;

export interface SlurmJobsOptions {
  readonly processes: ProcessTable;
  /** Undefined: never asked. */
  readonly scontrol: Scontrol | undefined;
  /** As Slurm calls this host: its short name. */
  readonly node: string;
  readonly logger: Logger;
}

export interface SlurmFindings {
  readonly held: readonly Holding[];
  /** Processes that belong to jobs. */
  readonly pids: ReadonlySet<number>;
  /** Jobs that run here and whose GPUs, if any, could not be found out. */
  readonly unknown: number;
}

interface Job {
  readonly gpus: readonly GpuName[];
  readonly labels: Readonly<Record<string, string>>;
}

/** Jobs on one node; more are counted. */
const MAX_JOBS = 1024;
/** Processes of a job whose environment is read, of each step; the first is Slurm's own doing. */
const READ_PER_STEP = 2;
/** A job that could not be asked about is asked about again this many reads later. */
const ASK_AGAIN_READS = 6;
/** `slurmstepd: [42.batch]`, `[42.0]`, `[42.extern]`, `[42+1.0]` of a heterogeneous job. */
const STEP = /^slurmstepd: \[(\d{1,10})(?:\+\d{1,5})?\.[^\]]{1,40}\]/;

/**
 * Jobs of Slurm on this node, and their GPUs.
 *
 * A step is a process `slurmstepd: [<job>.<step>]` of root (anyone else could call a process so), and what descends
 * from it. Slurm tells a step's processes which GPUs the job has: SLURM_JOB_GPUS, else SLURM_STEP_GPUS, which count
 * the GPUs of gres.conf in order (22.05, seen: the second of nvidia3, nvidia5 and nvidia6 is 1), and so as NVML does
 * where that file lists all of them; CUDA_VISIBLE_DEVICES only where it has UUIDs, since its numbers count from zero
 * within the job's cgroup. An environment is what Slurm set, until a program changes its own: a hint among friends,
 * not a proof.
 *
 * Where no process tells (no right to read, or a job without processes), `scontrol show job` is asked, once a job:
 * a controller has thousands of nodes. A job whose GPUs are allocated and idle is found as well as a busy one.
 */
export class SlurmJobs {
  readonly #options: SlurmJobsOptions;
  /** What was found out about a job, by its id; with the count of reads after which it may be asked about again. */
  readonly #jobs = new Map<string, { job: Job | undefined; askAgain: number }>();
  #reads = 0;
  #lastProblem = '';

  constructor(options: SlurmJobsOptions) {
    this.#options = options;
  }

  async find(processes: ReadonlyMap<number, ProcessEntry>, signal: AbortSignal): Promise<SlurmFindings> {
    this.#reads++;
    const steps = await this.#steps(processes);
    const rootOf = descendants(processes, new Set(steps.keys()));
    const running = new Set([...steps.values()].slice(0, MAX_JOBS));
    for (const id of this.#jobs.keys()) if (!running.has(id)) this.#jobs.delete(id);
    const held: Holding[] = [];
    let unknown = 0;
    for (const id of running) {
      const pids = [...rootOf].filter(([pid, root]) => steps.get(root) === id && pid !== root);
      const job = await this.#job(id, pids, signal);
      if (job === undefined) unknown++;
      else held.push(...job.gpus.map((gpu) => ({ gpu, labels: job.labels })));
    }
    return { held, pids: new Set(rootOf.keys()), unknown };
  }

  async #steps(processes: ReadonlyMap<number, ProcessEntry>): Promise<Map<number, string>> {
    const steps = new Map<number, string>();
    for (const { pid, comm } of processes.values()) {
      if (!comm.startsWith('slurmstepd') || steps.size >= 4 * MAX_JOBS) continue;
      const id = STEP.exec((await this.#options.processes.commandLine(pid)) ?? '')?.[1];
      if (id !== undefined && (await this.#options.processes.uid(pid)) === 0) steps.set(pid, id);
    }
    return steps;
  }

  /** What is known of a job is kept as long as it runs: its GPUs do not change. */
  async #job(
    id: string,
    pids: readonly (readonly [pid: number, root: number])[],
    signal: AbortSignal,
  ): Promise<Job | undefined> {
    const known = this.#jobs.get(id);
    if (known?.job !== undefined) return known.job;
    let job = await this.#fromEnvironment(id, pids);
    let askAgain = known?.askAgain ?? 0;
    if (job === undefined && this.#reads >= askAgain) {
      job = await this.#fromScontrol(id, signal);
      askAgain = this.#reads + ASK_AGAIN_READS;
    }
    this.#jobs.set(id, { job, askAgain });
    return job;
  }

  async #fromEnvironment(
    id: string,
    pids: readonly (readonly [pid: number, root: number])[],
  ): Promise<Job | undefined> {
    const read = new Map<number, number>();
    for (const [pid, root] of pids) {
      const count = read.get(root) ?? 0;
      if (count >= READ_PER_STEP) continue;
      read.set(root, count + 1);
      const environ = await this.#options.processes.environ(pid);
      if (environ?.get('SLURM_JOB_ID') !== id) continue;
      const gpus = gpusOf(environ);
      if (gpus.length > 0) return { gpus, labels: labelsOf(id, (name) => environ.get(name) ?? '') };
    }
    return undefined;
  }

  async #fromScontrol(id: string, signal: AbortSignal): Promise<Job | undefined> {
    const { scontrol, node, logger } = this.#options;
    if (scontrol === undefined) return undefined;
    try {
      const answer = await scontrol(signal, ['show', 'job', '--oneliner', '--details', id]);
      const found = answer
        .toString('utf8')
        .split('\n')
        .map((line) => parseScontrolJob(line, node))
        .find((job) => job?.id === id);
      if (found === undefined) return undefined;
      const { name, user, account, partition, gpus } = found;
      const given: Record<string, string> = {
        SLURM_JOB_NAME: name,
        SLURM_JOB_USER: user,
        SLURM_JOB_ACCOUNT: account,
        SLURM_JOB_PARTITION: partition,
      };
      return { gpus, labels: labelsOf(id, (variable) => given[variable] ?? '') };
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      const problem = describeError(error);
      if (problem !== this.#lastProblem) logger.warn({ source: 'workload' }, problem);
      this.#lastProblem = problem;
      return undefined;
    }
  }
}

function gpusOf(environ: ReadonlyMap<string, string>): GpuName[] {
  const listed = environ.get('SLURM_JOB_GPUS') ?? environ.get('SLURM_STEP_GPUS') ?? '';
  const indices = listed.split(',').filter((text) => /^\d{1,3}$/.test(text));
  if (indices.length > 0) return indices.map((text) => ({ index: Number(text) }));
  const visible = (environ.get('CUDA_VISIBLE_DEVICES') ?? '').split(',').map((text) => gpuNameOf(text));
  return visible.filter((gpu): gpu is GpuName => gpu !== undefined && 'uuid' in gpu);
}

function labelsOf(id: string, of: (variable: string) => string): Record<string, string> {
  return {
    workload: 'slurm',
    slurm_job_id: id,
    job_name: of('SLURM_JOB_NAME'),
    user: of('SLURM_JOB_USER'),
    account: of('SLURM_JOB_ACCOUNT'),
    partition: of('SLURM_JOB_PARTITION'),
  };
}
