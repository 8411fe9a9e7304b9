import { existsSync } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { GpuIdentities } from '../gpu-identity.ts';
import { Tool } from '../probe/tool.ts';
import type { Detection, SourceKind, Surroundings } from '../source-kind.ts';
import { type HoldingsSource, WorkloadCollector } from './collector.ts';
import { GpuDirectory } from './gpu-directory.ts';
import { GpuProcesses } from './gpu-processes.ts';
import type { Holdings } from './holding.ts';
import { HostHoldings } from './host-holdings.ts';
import { ProcessTable } from './process-table.ts';
import type { WorkloadSettings } from './settings.ts';
import { SlurmJobs } from './slurm-jobs.ts';
import { UserNames } from './user-names.ts';

/** A job with all its groups of nodes. */
const MAX_SCONTROL_BYTES = 2 ** 20;

/** Two collectors at most: kubelet may be slow, and /proc speaks all the same. */
export const kind: SourceKind<WorkloadSettings> = {
  async detect(settings, { host }): Promise<Detection> {
    const found: string[] = [];
    if (settings.kubernetes && (await exists(join(host.root, settings.pod_resources_socket)))) {
      found.push("kubelet's pod resources");
    }
    const devices = await readdir(host.dev).catch(() => []);
    if (devices.some((name) => /^(?:nvidia\d+|kfd)$/.test(name))) found.push('processes on GPUs');
    if (found.length === 0) return { found: false, why: 'no GPU device files and no kubelet' };
    const hint =
      process.getuid?.() === 0
        ? undefined
        : 'as root, or with CAP_SYS_PTRACE, processes of other users tell their GPUs';
    return { found: true, what: found.join(', '), ...(hint !== undefined && { hint }) };
  },
  create(settings, surroundings) {
    const { host, facts, clock, logger } = surroundings;
    const identities = new GpuIdentities(facts, clock);
    const socket = join(host.root, settings.pod_resources_socket);
    const asksKubelet = settings.kubernetes && existsSync(dirname(socket));
    const collector = (name: string, what: string, source: HoldingsSource): WorkloadCollector =>
      new WorkloadCollector({
        name,
        what,
        source,
        directory: new GpuDirectory({ known: () => identities.all, proc: host.proc }),
        intervalMs: settings.interval,
        facts,
        clock,
        logger,
      });
    const collectors: WorkloadCollector[] = [];
    if (asksKubelet) {
      collectors.push(collector('workload-kubernetes', `kubelet at ${socket}`, new LazyKubernetes(socket)));
    }
    if (settings.slurm || settings.processes) {
      collectors.push(
        collector('workload', `processes in ${host.proc}`, hostHoldings(settings, surroundings, asksKubelet)),
      );
    }
    return collectors;
  },
};

function hostHoldings(
  { slurm, scontrol, processes }: WorkloadSettings,
  { host, node, clock, logger }: Surroundings,
  skipPods: boolean,
): HostHoldings {
  const table = new ProcessTable(host.proc);
  const tool =
    slurm && scontrol
      ? new Tool({
          name: 'workload',
          command: 'scontrol',
          args: [],
          maxBytes: MAX_SCONTROL_BYTES,
          proc: host.proc,
          clock,
          logger,
        })
      : undefined;
  return new HostHoldings({
    table,
    tool,
    slurm: slurm
      ? new SlurmJobs({
          processes: table,
          scontrol: tool && ((signal, args) => tool.run(signal, args)),
          node: node.split('.')[0]!,
          logger,
        })
      : undefined,
    processes: processes
      ? new GpuProcesses({
          processes: table,
          users: new UserNames(host.root),
          hasGpus: () => exists(join(host.dev, 'nvidia-uvm')),
          ownPid: process.pid,
          skipPods,
        })
      : undefined,
  });
}

/** Loads the gRPC client when kubelet is first asked: a node without it does not pay for it. */
class LazyKubernetes implements HoldingsSource {
  readonly #path: string;
  #source: Promise<HoldingsSource> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async read(signal: AbortSignal): Promise<Holdings> {
    if (!(await exists(this.#path))) {
      throw new FleetError('unavailable', `Cannot ask kubelet: there is no ${this.#path}`);
    }
    this.#source ??= import('./kubernetes.ts').then(
      ({ KubernetesHoldings }) => new KubernetesHoldings(this.#path),
    );
    return (await this.#source).read(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#source)?.[Symbol.asyncDispose]();
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
