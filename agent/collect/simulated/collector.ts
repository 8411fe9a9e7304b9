import { xidNamed } from '#shared/catalogue/xid.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { EventType, FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { type Collector, type Reading, type RejectReason, SOURCE_RANK } from '../collector.ts';
import { type Board, boardOf } from './board.ts';
import { FaultSchedule } from './fault-schedule.ts';
import type { InjectedFault, ScriptedFault } from './faults.ts';
import { SimulatedNode } from './node.ts';
import { Prng } from './prng.ts';
import { GPU_PROFILES, type GpuModel } from './profiles.ts';
import { codedValue, READERS, seriesOf } from './series.ts';

export interface SimulatedOptions {
  /** Part of the seed: nodes of one fleet differ. */
  readonly node: string;
  /** 8 where not given; at most MAX_GPUS. */
  readonly gpus?: number;
  /** H100 where not given. */
  readonly model?: GpuModel;
  /** The same seed, node and times of reading give the same values. 1 where not given. */
  readonly seed?: number;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly faults?: readonly ScriptedFault[];
  /** Mild faults by chance, for each GPU and hour. None where not given. */
  readonly faultRate?: number;
}

export interface SimulatedCollector extends Collector {
  /**
   * Begins a fault at the next read. Throws `invalid_input` for a kind or GPU that does not exist,
   * `resource_exhausted` over a thousand faults.
   */
  inject(fault: InjectedFault): void;
}

export const MAX_GPUS = 16;
/** A longer pause is taken for this one: the loop that catches up stays short. */
const LONGEST_PAUSE_MS = 86_400_000;
const NO_EVENTS: readonly FleetEvent[] = [];
const NO_REJECTS: ReadonlyMap<RejectReason, number> = new Map();

/**
 * A simulated node: boards that share a training job, with faults. Throws `invalid_config` where a scripted fault
 * or the number of GPUs is not possible.
 */
export function createSimulatedCollector(options: SimulatedOptions): SimulatedCollector {
  return new Simulation(options);
}

class Simulation implements SimulatedCollector {
  readonly name = 'simulated';
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #clock: Clock;
  readonly #node: SimulatedNode;
  readonly #boards: readonly Board[];
  readonly #faults: FaultSchedule;
  readonly #dictionary: Dictionary;
  readonly #values: Float64Array;
  readonly #states: Uint8Array;
  /** By GPU: whether its last read gave values. */
  readonly #seen: boolean[];
  /** By GPU: whether it was lost at the last read. */
  readonly #lost: boolean[];
  #lastRead: number | undefined;
  /** Since the first read, as simulated: whole milliseconds, so that a script's times are met exactly. */
  #elapsedMs = 0;

  constructor(options: SimulatedOptions) {
    const {
      node,
      gpus = 8,
      model = 'H100',
      seed = 1,
      intervalMs,
      clock,
      faults = [],
      faultRate = 0,
    } = options;
    if (!Number.isInteger(gpus) || gpus < 1 || gpus > MAX_GPUS) {
      throw new FleetError('invalid_config', `Cannot simulate ${gpus} GPUs: 1 to ${MAX_GPUS} are possible`);
    }
    const profile = GPU_PROFILES[model];
    this.intervalMs = intervalMs;
    this.#clock = clock;
    this.#node = new SimulatedNode(profile, gpus, seed, node);
    this.#boards = Array.from({ length: gpus }, (_, i) =>
      boardOf(i, profile, new Prng(seed, node, 'board', i)),
    );
    this.#faults = new FaultSchedule({
      gpus,
      script: faults,
      ratePerGpuHour: faultRate,
      random: new Prng(seed, node, 'faults'),
    });
    this.#dictionary = createDictionary(
      this.name,
      intervalMs,
      this.#boards.flatMap(({ index, uuid, facts }) =>
        seriesOf({ gpu: String(index), uuid, model: profile.model, facts }),
      ),
    );
    this.#values = new Float64Array(this.#dictionary.series.length);
    this.#states = new Uint8Array(this.#dictionary.series.length);
    this.#seen = new Array(gpus).fill(false);
    this.#lost = new Array(gpus).fill(false);
  }

  inject(fault: InjectedFault): void {
    this.#faults.inject(fault);
  }

  /** Rejects never. While a read is stuck it answers only when the signal aborts, with the slots that timed out. */
  describe(): string {
    return `a simulated node with ${this.#boards.length} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const timestampMs = this.#clock.now();
    const events = this.#advance(timestampMs);
    if (this.#isStuck()) await aborted(signal);
    for (const { index } of this.#boards) this.#readGpu(index);
    return {
      dictionary: this.#dictionary,
      timestampMs,
      values: this.#values,
      states: this.#states,
      events,
      rejected: NO_REJECTS,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is open: it holds no timer, file or socket.
  }

  /** To this moment; faults first, so that they act on the time that has passed since the last read. */
  #advance(nowMs: number): readonly FleetEvent[] {
    const passedMs = this.#passedMs(nowMs);
    this.#elapsedMs += passedMs;
    const onsets = this.#faults.advance(this.#elapsedMs / 1000);
    let events: FleetEvent[] | undefined;
    for (const { gpu, xid } of onsets) {
      if (xid === undefined) continue;
      this.#node.gpus[gpu]!.lastXid = xid;
      events ??= [];
      events.push(xidEvent(this.#boards[gpu]!, xid, nowMs));
    }
    for (const board of this.#boards) {
      const conditions = this.#faults.conditionsOf(board.index);
      this.#node.gpus[board.index]!.conditions = conditions;
      const lost = conditions.lost > 0;
      if (lost === this.#lost[board.index]) continue;
      this.#lost[board.index] = lost;
      events ??= [];
      events.push(presenceEvent(board, lost, nowMs));
    }
    this.#node.advance(passedMs / 1000);
    return events ?? NO_EVENTS;
  }

  /** A clock that stepped back tells nothing of the time that passed: one interval then. */
  #passedMs(nowMs: number): number {
    const last = this.#lastRead;
    this.#lastRead = nowMs;
    if (last === undefined) return 0;
    return nowMs < last ? this.intervalMs : Math.min(nowMs - last, LONGEST_PAUSE_MS);
  }

  #isStuck(): boolean {
    return this.#node.gpus.some(({ conditions }) => conditions.stuck > 0 && conditions.lost === 0);
  }

  #readGpu(index: number): void {
    const gpu = this.#node.gpus[index]!;
    const { lost, stuck, frozen } = gpu.conditions;
    const seen = this.#seen[index]!;
    const missing = lost
      ? seen
        ? SlotState.Stale
        : SlotState.Absent
      : stuck
        ? SlotState.Timeout
        : undefined;
    if (!stuck || lost) this.#seen[index] = !lost;
    const first = index * READERS.length;
    for (let i = 0; i < READERS.length; i++) {
      const reader = READERS[i]!;
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

/** With the line that the kernel log would have, as NVIDIA's driver writes it. */
function xidEvent({ index, uuid, pciAddress }: Board, code: number, timestampMs: number): FleetEvent {
  const { name, severity } = xidNamed(code);
  return {
    type: 'xid',
    timestampMs,
    gpu: String(index),
    gpuUuid: uuid,
    text: `NVRM: Xid (PCI:${pciAddress}): ${code}, pid='<unknown>', name=<unknown>, ${name}`,
    attributes: { code: String(code), name, severity, source: 'simulated' },
  };
}

function presenceEvent({ index, uuid, pciAddress }: Board, lost: boolean, timestampMs: number): FleetEvent {
  const type: EventType = lost ? 'gpu_lost' : 'gpu_back';
  return {
    type,
    timestampMs,
    gpu: String(index),
    gpuUuid: uuid,
    text: `GPU ${index} (${pciAddress}) ${lost ? 'cannot be reached any more' : 'answers again'}`,
    attributes: { source: 'simulated' },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
