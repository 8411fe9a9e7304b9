import { AMD_CYCLES } from '#shared/catalogue/amd.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../../collector.ts';
import { Tool } from '../../probe/tool.ts';
import { GpuTable } from '../gpu-table.ts';
import { ListedGpus } from '../listed-gpus.ts';
import { listGpus, parseAmdSmi, type SmiDocument } from './document.ts';

export interface AmdSmiOptions {
  /** Absolute, or a name on PATH. */
  readonly command: string;
  readonly intervalMs: number;
  readonly maxBytes: number;
  /** /proc */
  readonly proc: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const NAME = 'amd-smi';
/** Limits and names: asked for again after this, and when another set of GPUs is listed. */
const STATIC_MS = 600_000;
const METRIC = ['metric', '--json'];
const FIXED = ['static', '--json'];

/**
 * `amd-smi metric --json`, and `amd-smi static --json` now and then. A read that fails gives `up` 0 and everything in
 * state Timeout (no answer in time) or Absent; the cause is logged once.
 */
export function createAmdSmiCollector(options: AmdSmiOptions): Collector {
  return new AmdSmiCollector(options);
}

class AmdSmiCollector implements Collector {
  readonly name = NAME;
  readonly rank = SOURCE_RANK.amd_smi;
  readonly holdsDevice = true;
  readonly intervalMs: number;
  readonly #options: AmdSmiOptions;
  readonly #tool: Tool;
  readonly #table: GpuTable;
  readonly #gpus = new ListedGpus('amdSmi', NAME, AMD_CYCLES.amdSmi);
  #statics: SmiDocument | undefined;
  #staticsAt = Number.NEGATIVE_INFINITY;
  #lastProblem = '';

  constructor(options: AmdSmiOptions) {
    const { command, intervalMs, maxBytes, proc, clock, logger } = options;
    this.#options = options;
    this.intervalMs = intervalMs;
    this.#tool = new Tool({ name: NAME, command, args: METRIC, maxBytes, proc, clock, logger });
    this.#table = new GpuTable({ source: NAME, intervalMs, clock });
  }

  describe(): string {
    return `${this.#options.command}, ${this.#gpus.present} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    this.#table.begin();
    try {
      const metric = await this.#document(signal, METRIC);
      const statics = await this.#fixed(signal, metric);
      this.#lastProblem = '';
      return this.#read(metric, statics);
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

  #read(metric: SmiDocument, statics: SmiDocument): Reading {
    const { clock } = this.#options;
    const listed = listGpus(metric, statics);
    const { gpus, events, refused } = this.#gpus.observe(listed, clock.now());
    this.#table.plan(gpus);
    this.#table.reject('malformed', metric.malformed);
    this.#table.reject('series_limit', refused);
    this.#gpus.fill(this.#table, listed, clock.monotonic());
    return this.#table.finish([...this.#tool.takeEvents(), ...events]);
  }

  /** Without it nobody knows which GPU is which: only an older answer can stand in for it. */
  async #fixed(signal: AbortSignal, metric: SmiDocument): Promise<SmiDocument> {
    const now = this.#options.clock.monotonic();
    const isFresh = now - this.#staticsAt < STATIC_MS;
    const isWhole = [...metric.gpus.keys()].every((gpu) => this.#statics?.gpus.has(gpu));
    if (this.#statics && isFresh && isWhole) return this.#statics;
    try {
      this.#statics = await this.#document(signal, FIXED);
      this.#staticsAt = now;
    } catch (error) {
      if (!this.#statics || !isWhole) throw error;
    }
    return this.#statics;
  }

  async #document(signal: AbortSignal, args: readonly string[]): Promise<SmiDocument> {
    const document = parseAmdSmi(await this.#tool.run(signal, args));
    if (document) return document;
    this.#table.reject('malformed');
    throw new FleetError(
      'unavailable',
      `Cannot read ${NAME} ${args.join(' ')}: its output is not a list of GPUs`,
    );
  }
}
