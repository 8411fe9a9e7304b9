import { GroupIds } from './group-ids.ts';
import { METRIC, METRICS } from './peer-metrics.ts';
import { type PeerRow, READING } from './peer-row.ts';
import { Windows } from './windows.ts';

/** Who a GPU may be compared with, nearest first. */
export const LEVEL = { job: 0, node: 1, slot: 2, model: 3 } as const;
export const LEVELS = 4;

/** Load as peers are told apart by. */
export const IDLE = 0;
export const WORKING = 1;
const UNKNOWN_LOAD = 2;

/** Bits of gpu_clock_event_reasons (NVML, nvmlClocksEventReasons). */
const APPLICATION_CLOCKS = 0x2;
const SW_POWER_CAP = 0x4;
/** Utilisation below which a GPU is idle, and from which its clock is that of its load. Own judgement. */
const IDLE_BELOW = 0.05;
const BUSY_FROM = 0.6;
/** Shares of the power limit for the same where no utilisation is known. An idle MI300X draws 0.18. Own judgement. */
const IDLE_POWER_SHARE = 0.25;
const BUSY_POWER_SHARE = 0.5;
/** After a pause of so long the windows begin anew. */
const GAP_MS = 300_000;
/** Of the count of corrected errors a day. */
const ERRORS_HALF_LIFE_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * The rows of all GPUs as columns: identity, groups, load, and a window for each metric. About 700 bytes a GPU besides
 * its strings. Allocates when a GPU is new or its job changes, never for a row.
 */
export class PeerTable {
  /** Rows in use are below this; some may be free (`uuids[i] === undefined`). */
  size = 0;
  readonly capacity: number;
  readonly uuids: (string | undefined)[] = [];
  readonly jobs: string[] = [];
  readonly models: string[] = [];
  readonly groups: readonly GroupIds[] = Array.from({ length: LEVELS }, () => new GroupIds());
  /** By GPU and level; -1 for the job of a GPU without one. */
  readonly groupOf: Int32Array;
  readonly seenMs: Float64Array;
  readonly jobSinceMs: Float64Array;
  readonly load: Uint8Array;
  /** Whether a power limit or set clocks hold the clock down: by policy, no fault. */
  readonly heldByPolicy: Uint8Array;
  readonly limitWatts: Float32Array;
  readonly correctedPerDay: Float64Array;
  readonly windows: Windows;
  /** When each window got its last sample. */
  readonly pushedMs: Float64Array;
  readonly #indexOf = new Map<string, number>();
  readonly #free: number[] = [];
  readonly #slots: Int32Array;
  readonly #nodes: string[] = [];
  readonly #wasBusy: Uint8Array;
  readonly #corrected: Float64Array;
  readonly #linkErrors: Float64Array;

  readonly #onSlotFree: (slot: number) => void;

  /** `onSlotFree`: a group of LEVEL.slot has lost its last member, and its id may be another slot's next. */
  constructor(capacity: number, onSlotFree: (slot: number) => void) {
    this.#onSlotFree = onSlotFree;
    this.capacity = capacity;
    this.groupOf = new Int32Array(capacity * LEVELS).fill(-1);
    this.seenMs = new Float64Array(capacity);
    this.jobSinceMs = new Float64Array(capacity);
    this.load = new Uint8Array(capacity);
    this.heldByPolicy = new Uint8Array(capacity);
    this.limitWatts = new Float32Array(capacity);
    this.correctedPerDay = new Float64Array(capacity);
    this.windows = new Windows(capacity * METRICS);
    this.pushedMs = new Float64Array(capacity * METRICS);
    this.#slots = new Int32Array(capacity);
    this.#wasBusy = new Uint8Array(capacity);
    this.#corrected = new Float64Array(capacity);
    this.#linkErrors = new Float64Array(capacity);
  }

  get known(): number {
    return this.#indexOf.size;
  }

  indexOf(uuid: string): number {
    return this.#indexOf.get(uuid) ?? -1;
  }

  /** The GPU's index, new or known; -1 where there is no room for a new one. */
  place(row: PeerRow, nowMs: number): number {
    const known = this.#indexOf.get(row.uuid);
    if (known !== undefined) return known;
    const index = this.#free.pop() ?? (this.size < this.capacity ? this.size++ : -1);
    if (index < 0) return -1;
    this.#indexOf.set(row.uuid, index);
    this.uuids[index] = row.uuid;
    this.#nodes[index] = '';
    this.models[index] = '';
    this.jobs[index] = '';
    this.#slots[index] = -1;
    this.groupOf.fill(-1, index * LEVELS, (index + 1) * LEVELS);
    this.seenMs[index] = nowMs;
    this.load[index] = UNKNOWN_LOAD;
    this.correctedPerDay[index] = 0;
    this.#corrected[index] = Number.NaN;
    this.#linkErrors[index] = Number.NaN;
    this.#clear(index);
    return index;
  }

  /** Takes the row of a placed GPU; whether its job is another one than before. */
  take(index: number, row: PeerRow, nowMs: number): boolean {
    const elapsedMs = nowMs - this.seenMs[index]!;
    this.seenMs[index] = nowMs;
    const newJob = this.#identify(index, row, nowMs);
    if (newJob || elapsedMs > GAP_MS) this.#clear(index);
    this.#setLoad(index, row.readings);
    this.#pushLevels(index, row.readings, nowMs);
    this.#pushWork(index, row, nowMs);
    this.#pushRates(index, row.readings, elapsedMs, nowMs);
    return newJob;
  }

  forget(index: number): void {
    const uuid = this.uuids[index];
    if (uuid === undefined) return;
    for (let level = 0; level < LEVELS; level++) this.#leave(index, level);
    this.#indexOf.delete(uuid);
    this.uuids[index] = undefined;
    this.#free.push(index);
  }

  /** Of a GPU at a level: -1 where it has none. */
  group(index: number, level: number): number {
    return this.groupOf[index * LEVELS + level]!;
  }

  #identify(index: number, row: PeerRow, nowMs: number): boolean {
    const { cluster, node, model, slot, job } = row;
    const moved = this.#nodes[index] !== node || this.models[index] !== model || this.#slots[index] !== slot;
    const newJob = this.jobs[index] !== job;
    if (!moved && !newJob) return false;
    this.#nodes[index] = node;
    this.models[index] = model;
    this.#slots[index] = slot;
    this.jobs[index] = job;
    this.jobSinceMs[index] = nowMs;
    this.#wasBusy[index] = 0;
    this.#join(index, LEVEL.job, job === '' ? undefined : `${cluster}\0${job}\0${model}`);
    if (moved) {
      this.#join(index, LEVEL.node, `${cluster}\0${node}\0${model}`);
      this.#join(index, LEVEL.slot, `${model}\0${slot}`);
      this.#join(index, LEVEL.model, model);
    }
    return newJob;
  }

  #join(index: number, level: number, key: string | undefined): void {
    this.#leave(index, level);
    if (key !== undefined) this.groupOf[index * LEVELS + level] = this.groups[level]!.join(key);
  }

  #leave(index: number, level: number): void {
    const id = this.group(index, level);
    if (id >= 0 && this.groups[level]!.leave(id) && level === LEVEL.slot) this.#onSlotFree(id);
    this.groupOf[index * LEVELS + level] = -1;
  }

  #clear(index: number): void {
    for (let metric = 0; metric < METRICS; metric++) this.windows.clear(index * METRICS + metric);
  }

  #setLoad(index: number, readings: Float64Array): void {
    const busy = utilisation(readings);
    const load = Number.isNaN(busy) ? UNKNOWN_LOAD : busy < IDLE_BELOW ? IDLE : WORKING;
    const reasons = readings[READING.clockReasons]!;
    this.heldByPolicy[index] = reasons & (APPLICATION_CLOCKS | SW_POWER_CAP) ? 1 : 0;
    const limit = readings[READING.limitWatts]!;
    this.limitWatts[index] = Number.isNaN(limit) ? 0 : limit;
    if (load === this.load[index]) return;
    this.load[index] = load;
    for (const metric of BY_LOAD) this.windows.clear(index * METRICS + metric);
  }

  #push(index: number, metric: number, value: number, nowMs: number): void {
    if (Number.isNaN(value)) return;
    const series = index * METRICS + metric;
    this.windows.push(series, value);
    this.pushedMs[series] = nowMs;
  }

  #pushLevels(index: number, readings: Float64Array, nowMs: number): void {
    this.#push(index, METRIC.core, readings[READING.coreCelsius]!, nowMs);
    this.#push(index, METRIC.memory, readings[READING.memoryCelsius]!, nowMs);
    this.#push(index, METRIC.linksUp, readings[READING.linksUp]!, nowMs);
    this.#push(index, METRIC.lanes, readings[READING.pcieLanes]!, nowMs);
    const metric = this.load[index] === IDLE ? METRIC.idleWatts : METRIC.watts;
    this.#push(index, metric, readings[READING.watts]!, nowMs);
  }

  /** What only means something under load: samples of a checkpoint or a pause are left out. */
  #pushWork(index: number, { readings, job }: PeerRow, nowMs: number): void {
    const busy = utilisation(readings);
    if (busy >= BUSY_FROM) {
      this.#wasBusy[index] = 1;
      if (!(readings[READING.clockReasons]! & APPLICATION_CLOCKS))
        this.#push(index, METRIC.clock, readings[READING.smMegahertz]!, nowMs);
      this.#push(index, METRIC.step, readings[READING.stepSeconds]!, nowMs);
      this.#push(index, METRIC.tensor, readings[READING.tensorActive]!, nowMs);
      this.#push(index, METRIC.links, readings[READING.linkBytesPerSecond]!, nowMs);
      this.#push(index, METRIC.memoryUsed, readings[READING.memoryUsed]!, nowMs);
    }
    if (job !== '' && this.#wasBusy[index] === 1) this.#push(index, METRIC.stopped, busy, nowMs);
  }

  /** Errors an hour. A counter that fell was reset: it has counted what it shows. */
  #pushRates(index: number, readings: Float64Array, elapsedMs: number, nowMs: number): void {
    const corrected = readings[READING.correctedErrors]!;
    const linkErrors = readings[READING.linkErrors]!;
    if (elapsedMs > 0) {
      const more = increase(this.#corrected[index]!, corrected);
      this.#push(index, METRIC.corrected, (more * HOUR_MS) / elapsedMs, nowMs);
      const errors = increase(this.#linkErrors[index]!, linkErrors);
      this.#push(index, METRIC.linkErrors, (errors * HOUR_MS) / elapsedMs, nowMs);
      const kept = 0.5 ** (elapsedMs / ERRORS_HALF_LIFE_MS);
      const added = Number.isNaN(more) ? 0 : more * Math.LN2;
      this.correctedPerDay[index] = this.correctedPerDay[index]! * kept + added;
    }
    if (!Number.isNaN(corrected)) this.#corrected[index] = corrected;
    if (!Number.isNaN(linkErrors)) this.#linkErrors[index] = linkErrors;
  }
}

/** Windows that begin anew when work begins or ends. */
const BY_LOAD = [METRIC.core, METRIC.memory, METRIC.watts, METRIC.idleWatts] as const;

function utilisation(readings: Float64Array): number {
  const told = readings[READING.utilisation]!;
  if (!Number.isNaN(told)) return told;
  const share = readings[READING.watts]! / readings[READING.limitWatts]!;
  if (Number.isNaN(share)) return share;
  return share < IDLE_POWER_SHARE ? 0 : share < BUSY_POWER_SHARE ? BUSY_FROM / 2 : 1;
}

function increase(before: number, now: number): number {
  return now >= before ? now - before : Number.isNaN(before) ? Number.NaN : now;
}

/** Whether a metric is compared among GPUs of the same load alone. */
export function dependsOnLoad(metric: number): boolean {
  return metric === METRIC.core || metric === METRIC.memory;
}
