import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { type Collector, type Reading, type RejectReason, SOURCE_RANK } from '../collector.ts';
import type { AppliedFault } from './fault-schedule.ts';
import type { InjectedFault } from './faults.ts';
import { Machine, type MachineOptions } from './machine.ts';
import { codedValue, fallingCounters, READERS, type Reader, seriesOf } from './series.ts';

export interface SimulatedOptions extends MachineOptions {
  readonly intervalMs: number;
  readonly clock: Clock;
}

export interface SimulatedCollector extends Collector {
  /** What it reads; the training's collector reads it too. */
  readonly machine: Machine;
  /** What began so far, the newest thousand, in order: what a log of what was reported is compared with. */
  readonly applied: readonly AppliedFault[];
  /** Names of the counters that fall to zero with `driver_reload`. */
  readonly fallingCounters: readonly string[];
  readonly dictionary: Dictionary;
  /** The newest reading; undefined before the first. */
  readonly last: Reading | undefined;
  /**
   * Begins a fault at the next read. Throws `invalid_input` for a kind or GPU that does not exist,
   * `resource_exhausted` over a thousand faults.
   */
  inject(fault: InjectedFault): void;
  /** Disposed of with the collector. */
  use(thing: AsyncDisposable): void;
}

const NO_REJECTS: ReadonlyMap<RejectReason, number> = new Map();
/** Of a fan's share: what the catalogue's two decimals carry. */
const FAN_STEPS = 100;

/**
 * A simulated node: boards that share a training job and a chassis, with faults. Throws `invalid_config` where a
 * scripted fault or the number of GPUs is not possible.
 */
export function createSimulatedCollector(options: SimulatedOptions): SimulatedCollector {
  return new Simulation(options);
}

class Simulation implements SimulatedCollector {
  readonly name = 'simulated';
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly machine: Machine;
  readonly dictionary: Dictionary;
  readonly fallingCounters: readonly string[];
  last: Reading | undefined;
  readonly #clock: Clock;
  readonly #readers: readonly Reader[];
  readonly #values: Float64Array;
  readonly #states: Uint8Array;
  /** By GPU: whether its last read gave values. */
  readonly #seen: boolean[];
  readonly #used = new AsyncDisposableStack();

  constructor(options: SimulatedOptions) {
    this.intervalMs = options.intervalMs;
    this.#clock = options.clock;
    this.machine = new Machine(options);
    const { vendor } = this.machine.profile;
    this.#readers = READERS[vendor];
    this.fallingCounters = fallingCounters(vendor);
    this.dictionary = createDictionary(this.name, this.intervalMs, seriesOfMachine(this.machine));
    this.#values = new Float64Array(this.dictionary.series.length);
    this.#states = new Uint8Array(this.dictionary.series.length);
    this.#seen = new Array(this.machine.boards.length).fill(false);
  }

  get applied(): readonly AppliedFault[] {
    return this.machine.applied;
  }

  inject(fault: InjectedFault): void {
    this.machine.inject(fault);
  }

  describe(): string {
    const { boards, profile } = this.machine;
    return `a simulated node with ${boards.length} x ${profile.model}`;
  }

  /** Rejects never. While a read is stuck it answers only when the signal aborts, with the slots that timed out. */
  async collect(signal: AbortSignal): Promise<Reading> {
    const timestampMs = this.#clock.now();
    const events = this.machine.advance(timestampMs);
    if (this.#isStuck()) await aborted(signal);
    const { boards } = this.machine;
    for (const { index } of boards) this.#readGpu(index);
    const fans = boards.length * this.#readers.length;
    for (let fan = 0; fan < boards.length; fan++)
      this.#values[fans + fan] = Math.round(this.machine.node.fanRatio(fan) * FAN_STEPS) / FAN_STEPS;
    this.last = this.#reading(timestampMs, events);
    return this.last;
  }

  use(thing: AsyncDisposable): void {
    this.#used.use(thing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#used.disposeAsync();
  }

  #reading(timestampMs: number, events: readonly FleetEvent[]): Reading {
    return {
      dictionary: this.dictionary,
      timestampMs,
      values: this.#values,
      states: this.#states,
      events,
      rejected: NO_REJECTS,
    };
  }

  #isStuck(): boolean {
    return this.machine.node.gpus.some(({ conditions }) => conditions.stuck > 0 && conditions.lost === 0);
  }

  #readGpu(index: number): void {
    const gpu = this.machine.node.gpus[index]!;
    const { lost, stuck, frozen } = gpu.conditions;
    const seen = this.#seen[index]!;
    // Once stale, so that the series end in the store and are not carried on.
    const missing = lost
      ? seen
        ? SlotState.Stale
        : SlotState.GpuLost
      : stuck
        ? SlotState.Timeout
        : undefined;
    if (!stuck || lost) this.#seen[index] = !lost;
    const readers = this.#readers;
    const first = index * readers.length;
    for (let i = 0; i < readers.length; i++) {
      const reader = readers[i]!;
      const slot = first + i;
      if (missing !== undefined && !(lost && reader.outlives)) {
        this.#states[slot] = missing;
        continue;
      }
      this.#states[slot] = SlotState.Present;
      // A sensor that was never read has no value to repeat.
      if (!(frozen && reader.sensor && seen)) this.#values[slot] = codedValue(reader, gpu);
    }
  }
}

/** Those of each GPU, then one fan of the chassis for each GPU. */
function seriesOfMachine({ boards, profile }: Machine): Series[] {
  return [
    ...boards.flatMap(({ index, uuid, facts }) =>
      seriesOf({ gpu: String(index), uuid, model: profile.model, facts }, profile.vendor),
    ),
    ...boards.map(({ index }) => canonicalSeries('chassis_fan_ratio', { fan: String(index) })),
  ];
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
