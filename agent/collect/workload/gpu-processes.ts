import type { Holding } from './holding.ts';
import type { ProcessEntry, ProcessTable } from './process-table.ts';
import type { UserNames } from './user-names.ts';

/** Links under /proc/<pid>/fd that one scan reads: 35 ms of a core at most (17 us each, Node 24, 2 vCPU). The rest follows in later scans. */
const LINKS_PER_SCAN = 2000;
/** Of one process: GPUs are opened early. */
const LINKS_PER_PROCESS = 512;
const NVIDIA = /^\/dev\/nvidia(\d{1,3})$/;
const COMPUTE = '/dev/nvidia-uvm';
/** They open every GPU to look after it. */
const KEEPERS: ReadonlySet<string> = new Set([
  ...[
    'nv-hostengine',
    'nvidia-persiste',
    'nvidia-smi',
    'nv-fabricmanage',
    'dcgm-exporter',
    'nvidia-device-p',
  ],
]);

export interface GpuProcessesOptions {
  readonly processes: ProcessTable;
  readonly users: UserNames;
  /** Whether this host has NVIDIA's devices: no process needs to be looked at where it has none. */
  readonly hasGpus: () => Promise<boolean>;
  /** The agent's own: it and its children open GPUs too. */
  readonly ownPid: number;
  /** Containers of pods are told by kubelet. */
  readonly skipPods: boolean;
}

/**
 * Processes that compute on an NVIDIA GPU outside of any scheduler: they hold /dev/nvidia<minor> and /dev/nvidia-uvm
 * open. CUDA opens all GPUs that a process may see, so this says "may use". Processes of one user, name and control
 * group are one holder.
 */
export class GpuProcesses {
  readonly #options: GpuProcessesOptions;
  /** GPUs of processes that hold some, by pid and start. */
  readonly #holders = new Map<string, readonly number[]>();
  /** The pid behind which the next scan goes on. */
  #next = 0;

  constructor(options: GpuProcessesOptions) {
    this.#options = options;
  }

  async find(
    processes: ReadonlyMap<number, ProcessEntry>,
    except: ReadonlySet<number>,
    signal: AbortSignal,
  ): Promise<Holding[]> {
    const all = [...processes.values()].filter((one) => !this.#isKeeper(one) && !except.has(one.pid));
    const there = new Set(all.map(keyOf));
    for (const key of this.#holders.keys()) if (!there.has(key)) this.#holders.delete(key);
    if (await this.#options.hasGpus()) await this.#look(all, signal);
    else this.#holders.clear();
    const held: Holding[] = [];
    for (const one of all) {
      const minors = this.#holders.get(keyOf(one));
      const labels = minors && (await this.#labels(one));
      if (labels) held.push(...minors.map((minor) => ({ gpu: { minor }, labels })));
    }
    return held;
  }

  #isKeeper({ pid, ppid, comm }: ProcessEntry): boolean {
    const { ownPid } = this.#options;
    return pid === ownPid || ppid === ownPid || KEEPERS.has(comm);
  }

  /** Known holders first, then the others by turns. */
  async #look(all: readonly ProcessEntry[], signal: AbortSignal): Promise<void> {
    const known = all.filter((one) => this.#holders.has(keyOf(one)));
    const others = all
      .filter((one) => !this.#holders.has(keyOf(one)))
      .sort((a, b) => Number(a.pid <= this.#next) - Number(b.pid <= this.#next) || a.pid - b.pid);
    let links = LINKS_PER_SCAN;
    for (const one of [...known, ...others]) {
      if (links <= 0) break;
      signal.throwIfAborted();
      const files = (await this.#options.processes.files(one.pid, LINKS_PER_PROCESS)) ?? [];
      links -= 1 + files.length;
      const minors = new Set(files.flatMap((file) => NVIDIA.exec(file)?.[1] ?? []).map(Number));
      if (minors.size > 0 && files.includes(COMPUTE)) this.#holders.set(keyOf(one), [...minors]);
      else this.#holders.delete(keyOf(one));
      this.#next = one.pid;
    }
    if (links > 0) this.#next = 0;
  }

  async #labels({ pid, comm }: ProcessEntry): Promise<Record<string, string> | undefined> {
    const { processes, users, skipPods } = this.#options;
    const cgroup = await processes.cgroup(pid);
    if (skipPods && /\/kubepods[./-]/.test(`${cgroup}/`)) return undefined;
    const uid = await processes.uid(pid);
    if (uid === undefined) return undefined;
    return { workload: 'process', process: comm, user: await users.nameOf(uid), cgroup: cgroup.slice(-200) };
  }
}

function keyOf({ pid, started }: ProcessEntry): string {
  return `${pid}/${started}`;
}
