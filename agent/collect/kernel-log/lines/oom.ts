import { details, type Finding, MAX_DETAIL_TEXT } from '../finding.ts';

/** `(name)` right after the pid, or after `UID 48, ` as some kernels had it. */
const KILLED = /\bKill(?:ed)? process (\d{1,10})(?:, UID \d+)?,? \(([^)]{0,64})\)/;
const CONTEXT = /^oom-kill:constraint=(\w+),/;
const MEMCG = /\btask_memcg=([^,]+)/;
const TASK_PID = /\bpid=(\d+)(?=,|$)/;

const SLURM_JOB = /\/job_(\d+)(?:\/|$)/;
const POD = /pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})/;
const CONTAINER = /([0-9a-f]{64})/;

/** The GPU that a process holds, as the agent knows it. */
export type GpuOfProcess = (pid: number) => { readonly gpu: string; readonly uuid: string } | undefined;

/**
 *     oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0-1,oom_memcg=/a,task_memcg=/a/b,task=python,pid=456,uid=0
 *     Memory cgroup out of memory: Killed process 456 (python) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0
 *     Out of memory: Killed process 123, UID 48, (httpd).
 *
 * The first tells in which cgroup, the second that it was done. Kernels before 5.0 say `Kill process` and then
 * `Killed process`: one event.
 */
export class OomLines {
  readonly #gpuOf: GpuOfProcess;
  /** Of the last oom-kill line. */
  #cgroup: { pid: string; path: string; constraint: string } | undefined;
  #announced = '';

  constructor(gpuOf: GpuOfProcess) {
    this.#gpuOf = gpuOf;
  }

  read(text: string): Finding | 'folded' | undefined {
    if (text.startsWith('oom-kill:')) return this.#context(text);
    if (!/out of memory|Killed process/i.test(text)) return undefined;
    const [, pid, process] = KILLED.exec(text) ?? [];
    if (pid === undefined || process === undefined) return undefined;
    const announced = this.#announced === pid;
    this.#announced = text.includes('Kill process') ? pid : '';
    if (announced && this.#announced === '') return 'folded';
    return this.#killed(pid, process);
  }

  #context(text: string): 'folded' {
    const constraint = CONTEXT.exec(text)?.[1];
    const pid = TASK_PID.exec(text)?.[1];
    const path = MEMCG.exec(text)?.[1];
    this.#cgroup = pid && path && constraint ? { pid, path, constraint } : undefined;
    return 'folded';
  }

  #killed(pid: string, process: string): Finding {
    const path = this.#cgroup?.pid === pid ? this.#cgroup.path : '';
    const slurm = SLURM_JOB.exec(path)?.[1];
    const pod = POD.exec(path)?.[1]?.replaceAll('_', '-');
    const held = this.#gpuOf(Number(pid));
    return {
      type: 'oom_kill',
      code: held ? 'gpu_job' : 'process',
      name: held
        ? 'process of a GPU job was killed for want of memory'
        : 'process was killed for want of memory',
      severity: held ? 'error' : 'warning',
      action: 'give the job more memory, or look for its leak',
      what: slurm ?? pod ?? (path.slice(-MAX_DETAIL_TEXT) || process),
      details: details({
        pid,
        process,
        slurm_job: slurm,
        pod_uid: pod,
        container: slurm === undefined ? CONTAINER.exec(path)?.[1] : undefined,
        cgroup: path.slice(-MAX_DETAIL_TEXT),
      }),
    };
  }
}
