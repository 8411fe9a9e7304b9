import type { Clock } from '#shared/model/clock.ts';
import { GpuRoster } from '../../../../../agent/collect/amd/gpu-roster.ts';
import type { Open } from '../../../../../agent/collect/amd/sysfs/attribute-file.ts';
import { openForReading } from '../../../../../agent/collect/amd/sysfs/attribute-file.ts';
import { createAmdSysfsCollector } from '../../../../../agent/collect/amd/sysfs/collector.ts';
import type { Collector, Reading } from '../../../../../agent/collect/collector.ts';
import type { Facts } from '../../../../../agent/collect/source-kind.ts';
import { type TempDir, tempDir } from '../../../../support/temp.ts';

export class RememberedFacts implements Facts {
  readonly #facts = new Map<string, string>();
  get(name: string): string | undefined {
    return this.#facts.get(name);
  }
  set(name: string, value: string): void {
    this.#facts.set(name, value);
  }
}

type Fault = NodeJS.ErrnoException | 'hang';

/** A /sys in a temporary folder, its files' faults, and the collectors over it. */
export class AmdNode implements AsyncDisposable {
  readonly #dir: TempDir = tempDir('amd-sysfs');
  readonly facts: RememberedFacts;
  readonly metrics: Collector;
  readonly ras: Collector;
  nowMs = 1_700_000_000_000;
  /** By the end of a path: what reading it gives. */
  readonly readFaults = new Map<string, Fault>();
  readonly openFaults = new Map<string, NodeJS.ErrnoException>();
  readonly #hanging: (() => void)[] = [];

  constructor(facts = new RememberedFacts()) {
    this.facts = facts;
    const clock: Clock = { now: () => this.nowMs, monotonic: () => this.nowMs };
    const roster = new GpuRoster('amd-sysfs', facts, this.nowMs);
    const shared = { sys: this.sys, intervalMs: 1000, clock, roster, open: this.#open };
    this.metrics = createAmdSysfsCollector({ ...shared, part: 'metrics' });
    this.ras = createAmdSysfsCollector({ ...shared, part: 'ras' });
  }

  get sys(): string {
    return this.#dir.path;
  }

  async read(collector = this.metrics, signal = new AbortController().signal): Promise<Reading> {
    this.nowMs += 1000;
    return await collector.collect(signal);
  }

  /** Lets the reads that hang end. */
  release(): void {
    this.readFaults.clear();
    for (const resolve of this.#hanging.splice(0)) resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release();
    await this.metrics[Symbol.asyncDispose]();
    await this.ras[Symbol.asyncDispose]();
    await this.#dir[Symbol.asyncDispose]();
  }

  readonly #open: Open = async (path) => {
    const refused = faultOf(this.openFaults, path);
    if (refused) throw refused;
    const file = await openForReading(path);
    const read = async (...args: Parameters<typeof file.read>) => {
      const fault = faultOf(this.readFaults, path);
      if (fault === 'hang') await new Promise<void>((resolve) => this.#hanging.push(resolve));
      else if (fault) throw fault;
      return await file.read(...args);
    };
    return { read: read as typeof file.read, close: () => file.close() };
  };
}

function faultOf<F>(faults: ReadonlyMap<string, F>, path: string): F | undefined {
  return [...faults].find(([part]) => path.includes(part))?.[1];
}

export function errno(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: as the driver answers`), { code });
}
