import { FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { HoldingsSource } from './collector.ts';
import type { GpuProcesses } from './gpu-processes.ts';
import type { Holding, Holdings } from './holding.ts';
import type { ProcessTable } from './process-table.ts';
import type { SlurmJobs } from './slurm-jobs.ts';

export interface HostHoldingsOptions {
  readonly table: ProcessTable;
  readonly slurm: SlurmJobs | undefined;
  readonly processes: GpuProcesses | undefined;
  /** Whatever runs scontrol. */
  readonly tool: (AsyncDisposable & { takeEvents(): FleetEvent[] }) | undefined;
}

const NOBODY: ReadonlySet<number> = new Set();

/** Who holds GPUs as the host's processes tell: jobs of Slurm, then processes that belong to none. */
export class HostHoldings implements HoldingsSource {
  readonly #options: HostHoldingsOptions;

  constructor(options: HostHoldingsOptions) {
    this.#options = options;
  }

  /** Throws `unavailable` where /proc cannot be read in time. */
  async read(signal: AbortSignal): Promise<Holdings> {
    const { table, slurm, processes } = this.#options;
    try {
      const all = await table.read(signal);
      const jobs = await slurm?.find(all, signal);
      const held: Holding[] = [...(jobs?.held ?? [])];
      held.push(...((await processes?.find(all, jobs?.pids ?? NOBODY, signal)) ?? []));
      return { held, malformed: jobs?.unknown ?? 0 };
    } catch (cause) {
      if (cause instanceof FleetError) throw cause;
      throw new FleetError('unavailable', 'Cannot read the processes of this host', { cause });
    }
  }

  takeEvents(): FleetEvent[] {
    return this.#options.tool?.takeEvents() ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.tool?.[Symbol.asyncDispose]();
  }
}
