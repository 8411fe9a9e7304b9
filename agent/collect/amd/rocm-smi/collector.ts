import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../../collector.ts';
import { Tool } from '../../probe/tool.ts';
import { GpuTable } from '../gpu-table.ts';
import { ListedGpus } from '../listed-gpus.ts';
import { parseRocmSmi } from './document.ts';

export interface RocmSmiOptions {
  /** Absolute, or a name on PATH. */
  readonly command: string;
  readonly intervalMs: number;
  readonly maxBytes: number;
  /** /proc */
  readonly proc: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const NAME = 'rocm-smi';
/** What the catalogue reads, and no more: `-a` also asks for firmware, topology and processes. */
const ARGS = [
  ...['--showid', '--showproductname', '--showserial', '--showuniqueid', '--showbus', '--showvbios'],
  ...['--showdriverversion', '--showtemp', '--showpower', '--showmaxpower', '--showclocks', '--showuse'],
  ...['--showmemuse', '--showmeminfo', 'vram', '--showvoltage', '--showfan', '--showreplaycount'],
  ...['--showenergycounter', '--json'],
];

/**
 * `rocm-smi --json`. A read that fails gives `up` 0 and everything in state Timeout (no answer in time) or Absent; the
 * cause is logged once.
 */
export function createRocmSmiCollector(options: RocmSmiOptions): Collector {
  return new RocmSmiCollector(options);
}

class RocmSmiCollector implements Collector {
  readonly name = NAME;
  readonly rank = SOURCE_RANK.rocm_smi;
  readonly holdsDevice = true;
  readonly intervalMs: number;
  readonly #options: RocmSmiOptions;
  readonly #tool: Tool;
  readonly #table: GpuTable;
  readonly #gpus = new ListedGpus('rocmSmi', NAME, '');
  #lastProblem = '';

  constructor(options: RocmSmiOptions) {
    const { command, intervalMs, maxBytes, proc, clock, logger } = options;
    this.#options = options;
    this.intervalMs = intervalMs;
    this.#tool = new Tool({ name: NAME, command, args: ARGS, maxBytes, proc, clock, logger });
    this.#table = new GpuTable({ source: NAME, intervalMs, clock });
  }

  describe(): string {
    return `${this.#options.command}, ${this.#gpus.present} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    this.#table.begin();
    try {
      const output = await this.#tool.run(signal);
      this.#lastProblem = '';
      return this.#read(output);
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastProblem) this.#options.logger.warn({ source: NAME }, problem);
      this.#lastProblem = problem;
      const state = signal.aborted ? SlotState.Timeout : SlotState.Absent;
      return this.#table.failed(state, this.#tool.takeEvents(), problem);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tool[Symbol.asyncDispose]();
  }

  #read(output: Buffer): Reading {
    const { clock } = this.#options;
    const document = parseRocmSmi(output);
    if (!document) {
      this.#table.reject('malformed');
      throw new FleetError('unavailable', `Cannot read ${NAME}: its output is not a list of cards`);
    }
    const { gpus, events, refused } = this.#gpus.observe(document.gpus, clock.now());
    this.#table.plan(gpus);
    this.#table.reject('malformed', document.malformed);
    this.#table.reject('series_limit', refused);
    this.#gpus.fill(this.#table, document.gpus, clock.monotonic());
    return this.#table.finish([...this.#tool.takeEvents(), ...events]);
  }
}
