import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../../collector.ts';
import type { GpuIdentities } from '../../gpu-identity.ts';
import { LibraryProbe } from '../../probe/library-probe.ts';
import { ReadingTable } from '../../reading-table.ts';
import { DeviceSet, type GroupPlan } from './device-set.ts';
import { Group } from './fields.ts';
import type { NvmlLibraryOptions } from './library.ts';

export interface NvmlOptions {
  /** Name or path of libnvidia-ml.so.1. */
  readonly library: string;
  readonly intervalMs: number;
  readonly slowIntervalMs: number;
  readonly timeoutMs: number;
  readonly keepOpen: boolean;
  /** How often a lost GPU is looked for. Default 30 s. */
  readonly recheckMs?: number;
  readonly identities: GpuIdentities;
  readonly proc: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const NAME = 'nvml';
const RECHECK_MS = 30_000;
/** The first call attaches every GPU; without persistence mode that is seconds each. */
const START_FACTOR = 6;
/** By name: in a bundle it is not beside this file. */
const LIBRARY = pathToFileURL(createRequire(import.meta.url).resolve('#entry/nvml')).href;

/**
 * NVML through a child process that keeps the library: two collectors, for what moves and for what seldom does, over
 * one probe. See LibraryProbe for hangs and crashes, DeviceSet for GPUs that are lost.
 */
export function createNvmlCollectors(options: NvmlOptions): readonly Collector[] {
  const node = new NvmlNode(options);
  return [
    new NvmlCollector(node, NAME, Group.Fast, options.intervalMs),
    new NvmlCollector(node, `${NAME}-slow`, Group.Slow, options.slowIntervalMs),
  ];
}

/** What the collectors of a node share. Closed when each of them is. */
class NvmlNode {
  readonly options: NvmlOptions;
  readonly probe: LibraryProbe;
  readonly devices: DeviceSet;
  #users = 2;
  #lastProblem = '';

  constructor(options: NvmlOptions) {
    const { library, keepOpen, recheckMs = RECHECK_MS, timeoutMs, identities, proc, clock, logger } = options;
    const childOptions: NvmlLibraryOptions = { library, keepOpen, recheckMs };
    this.options = options;
    this.devices = new DeviceSet({ source: NAME, identities, clock });
    this.probe = new LibraryProbe({
      name: NAME,
      module: LIBRARY,
      options: childOptions,
      timeoutMs,
      startTimeoutMs: timeoutMs * START_FACTOR,
      proc,
      clock,
      logger,
    });
  }

  /** Logs a problem once, until it is another or none. */
  note(problem: string): void {
    if (problem !== this.#lastProblem && problem !== '') this.options.logger.warn({ source: NAME }, problem);
    this.#lastProblem = problem;
  }

  async release(): Promise<void> {
    this.#users--;
    if (this.#users <= 0) await this.probe[Symbol.asyncDispose]();
  }
}

class NvmlCollector implements Collector {
  readonly name: string;
  readonly intervalMs: number;
  readonly rank = SOURCE_RANK.nvml;
  readonly holdsDevice = true;
  readonly #node: NvmlNode;
  readonly #group: Group;
  readonly #table: ReadingTable;
  #released: Promise<void> | undefined;

  constructor(node: NvmlNode, name: string, group: Group, intervalMs: number) {
    this.name = name;
    this.intervalMs = intervalMs;
    this.#node = node;
    this.#group = group;
    this.#table = new ReadingTable({ source: name, intervalMs, clock: node.options.clock });
  }

  describe(): string {
    const { driver, count } = this.#node.devices;
    const { library } = this.#node.options;
    if (driver === '') return `NVML through ${library}, not read yet`;
    const crashes = this.#node.probe.crashes;
    return `NVML ${driver} through ${library}, ${count} GPUs${crashes > 0 ? `, ${crashes} crashes` : ''}`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { probe, devices } = this.#node;
    const table = this.#table;
    table.begin();
    const answer = await probe.read(this.#group, signal);
    if ('failure' in answer) {
      this.#node.note(answer.failure);
      return table.failed(answer.state, this.#takeEvents(), answer.failure);
    }
    this.#node.note('');
    const plan = devices.plan(answer.description, this.#group);
    table.plan(plan.series);
    this.#fill(plan, answer.values, answer.states);
    if (this.#group === Group.Fast) devices.observe(plan, answer.values);
    return table.finish(this.#takeEvents());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released ??= this.#node.release();
    await this.#released;
  }

  #fill(plan: GroupPlan, values: Float64Array, states: Uint8Array): void {
    const table = this.#table;
    if (values.length !== plan.slots)
      throw new RangeError(`${values.length} values for ${plan.slots} series`);
    for (let i = 0; i < values.length; i++) {
      const state = states[i] as SlotState;
      if (state === SlotState.Present) table.put(i, values[i]!);
      else table.miss(i, state);
    }
    for (const index of plan.down) table.put(index, 0);
    for (const index of plan.lost) table.miss(index, SlotState.GpuLost);
    for (const index of plan.ones) table.put(index, 1);
  }

  #takeEvents(): Reading['events'] {
    return [...this.#node.probe.takeEvents(), ...this.#node.devices.takeEvents()];
  }
}
