import { silentLogger } from '#shared/logging/logger.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Reading } from '../../../../../agent/collect/collector.ts';
import { GpuIdentities } from '../../../../../agent/collect/gpu-identity.ts';
import {
  NvidiaSmiCollector,
  type NvidiaSmiOptions,
} from '../../../../../agent/collect/nvidia/nvidia-smi/collector.ts';
import { gpuQuery, longReport } from '../../../../../agent/collect/nvidia/nvidia-smi/queries.ts';
import { SmiSession } from '../../../../../agent/collect/nvidia/nvidia-smi/smi-session.ts';

const HELP = '"index"\n\n"uuid" or "gpu_uuid"\nHelp.\n\n"temperature.gpu"\n';

/** A collector over an nvidia-smi that answers what it is told. */
export class SmiNode implements AsyncDisposable {
  /** What the next run prints. */
  output: string | Buffer | Error = '';
  readonly runs: string[][] = [];
  readonly toolEvents: FleetEvent[] = [];
  disposed = 0;
  readonly session = new SmiSession({
    run: async (_signal, args) => {
      this.runs.push([...args]);
      if (args[0] === '--help-query-gpu') return Buffer.from(HELP);
      if (this.output instanceof Error) throw this.output;
      return Buffer.from(this.output);
    },
    takeEvents: () => this.toolEvents.splice(0),
    [Symbol.asyncDispose]: async () => {
      this.disposed++;
    },
  });
  readonly facts = new Map<string, string>();
  readonly identities = new GpuIdentities(
    { get: (name) => this.facts.get(name), set: (name, value) => this.facts.set(name, value) },
    { now: () => this.#now, monotonic: () => this.#now },
  );
  readonly collector: NvidiaSmiCollector;
  #now = 1_700_000_000_000;

  constructor(format: 'csv' | 'xml', options: Partial<NvidiaSmiOptions> = {}) {
    this.collector = new NvidiaSmiCollector({
      name: 'nvidia-smi',
      rank: 30,
      intervalMs: 1000,
      timeoutMs: 10_000,
      session: this.session,
      query: format === 'csv' ? gpuQuery(true) : longReport(),
      raisesLost: true,
      identities: this.identities,
      clock: { now: () => (this.#now += 1000), monotonic: () => (this.#now += 4) },
      logger: silentLogger,
      ...options,
    });
  }

  async read(output: string | Buffer | Error): Promise<Reading> {
    this.output = output;
    return await this.collector.collect(new AbortController().signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.collector[Symbol.asyncDispose]();
  }
}
