import { CHANNEL_COUNT, CHANNELS, HELD_BACK, IDLE_BIT } from './channels.ts';
import { FRAME, FRAME_WIDTH } from './gpu-frame.ts';
import { LoadCurve } from './load-curve.ts';
import { LoadFilter, TIME_CONSTANTS } from './load-filter.ts';

const CORE = 0;
const MEMORY = 1;
const CLOCK = 2;
const POWER = 3;
const FAN = 4;
/** A GPU works from here on, as a share of time. */
const WORKING = 0.5;
/** Load that moved less than this since the last sample is taken as it is. */
const STEADY = 0.1;
/** Power follows utilisation within this of the range. */
const SETTLED = 0.03;
/** Share of a change of load that a temperature may show of it in either direction: when it came is not known. */
const TIMING = 0.6;
/** The fan is looked at as a function of the core's temperature up to here, °C. */
const FAN_RANGE = 110;
/** Of gpu_clock_event_reasons: the clock is free. */
const NO_REASON = 0;

/**
 * What each gauge of a GPU should be, given its load, for GPUs in rows. Temperatures: a curve over the filtered power, with
 * the time constant that fits. `consider` sets `expected`, `residual` and `tolerance` for one channel.
 */
export class GaugeChannels {
  readonly filter: LoadFilter;
  readonly #curves: LoadCurve;
  /** Of the sample before: reasons, share of time busy, share of SMs at work. */
  readonly #reasons: Float64Array;
  readonly #busy: Float64Array;
  readonly #work: Float64Array;
  expected = Number.NaN;
  residual = Number.NaN;
  tolerance = 0;

  constructor(gpus: number) {
    this.filter = new LoadFilter(gpus);
    this.#curves = new LoadCurve(gpus * CHANNEL_COUNT);
    this.#reasons = new Float64Array(gpus).fill(Number.NaN);
    this.#busy = new Float64Array(gpus).fill(Number.NaN);
    this.#work = new Float64Array(gpus).fill(Number.NaN);
    for (let gpu = 0; gpu < gpus; gpu++)
      for (let i = 0; i < CHANNEL_COUNT; i++) this.#curves.begin(gpu * CHANNEL_COUNT + i, CHANNELS[i]!.slope);
  }

  take(gpu: number, from: GaugeChannels, other: number): void {
    this.filter.take(gpu, from.filter, other);
    for (let i = 0; i < CHANNEL_COUNT; i++)
      this.#curves.take(gpu * CHANNEL_COUNT + i, from.#curves, other * CHANNEL_COUNT + i);
  }

  rearm(gpu: number): void {
    this.filter.rearm(gpu);
    this.#reasons[gpu] = Number.NaN;
    this.#busy[gpu] = Number.NaN;
    this.#work[gpu] = Number.NaN;
  }

  /** To be called after all channels of a sample. */
  remember(gpu: number, frame: Float64Array): void {
    const at = gpu * FRAME_WIDTH;
    this.#reasons[gpu] = frame[at + FRAME.reasons]!;
    this.#busy[gpu] = frame[at + FRAME.busy]!;
    this.#work[gpu] = workOf(frame, at);
  }

  /** False where nothing can be said of the channel now. `seconds`: what this sample teaches. */
  consider(gpu: number, channel: number, frame: Float64Array, seconds: number): boolean {
    const at = gpu * FRAME_WIDTH;
    switch (channel) {
      case CORE:
        return this.#temperature(gpu, CORE, frame[at + FRAME.core]!, seconds);
      case MEMORY:
        return this.#temperature(gpu, MEMORY, frame[at + FRAME.memory]!, seconds);
      case CLOCK:
        return this.#isFree(gpu, frame) && this.#compare(gpu, CLOCK, 0, frame[at + FRAME.clock]!, seconds);
      case POWER:
        if (!this.#isUnheld(gpu, frame)) return false;
        return this.#compare(gpu, POWER, workOf(frame, at), frame[at + FRAME.power]!, seconds);
      case FAN:
        return this.#compare(gpu, FAN, frame[at + FRAME.core]! / FAN_RANGE, frame[at + FRAME.fan]!, seconds);
      default:
        return false;
    }
  }

  #temperature(gpu: number, channel: number, value: number, seconds: number): boolean {
    if (Number.isNaN(value)) return false;
    const row = gpu * CHANNEL_COUNT + channel;
    const constant = this.filter.bestFor(gpu, channel);
    const unsettled = this.filter.unsettledOf(gpu, constant);
    const load = this.filter.loadOf(gpu, constant);
    if (!this.#compare(gpu, channel, load, value, unsettled < SETTLED ? seconds : 0)) return false;
    this.tolerance += TIMING * unsettled * Math.abs(this.#curves.slopeOf(row));
    if (unsettled >= SETTLED) this.#tryConstants(gpu, channel, value);
    return true;
  }

  /** Only while the load moves do time constants differ. */
  #tryConstants(gpu: number, channel: number, value: number): void {
    const { expected, tolerance } = this;
    for (let i = 0; i < TIME_CONSTANTS.length; i++) {
      this.#curves.predict(gpu * CHANNEL_COUNT + channel, this.filter.loadOf(gpu, i));
      this.filter.noteError(gpu, channel, i, value - this.#curves.expected);
    }
    this.expected = expected;
    this.tolerance = tolerance;
  }

  #compare(gpu: number, channel: number, load: number, value: number, seconds: number): boolean {
    if (Number.isNaN(value) || Number.isNaN(load)) return false;
    const row = gpu * CHANNEL_COUNT + channel;
    const known = this.#curves.predict(row, load);
    this.expected = this.#curves.expected;
    this.tolerance = this.#curves.doubt;
    this.residual = value - this.expected;
    if (seconds > 0) this.#curves.learn(row, load, value, seconds);
    return known;
  }

  /** Working, and nothing that the driver names holds its clock: now and at the sample before. */
  #isFree(gpu: number, frame: Float64Array): boolean {
    const at = gpu * FRAME_WIDTH;
    return (
      frame[at + FRAME.reasons] === NO_REASON &&
      this.#reasons[gpu] === NO_REASON &&
      frame[at + FRAME.busy]! >= WORKING &&
      this.#busy[gpu]! >= WORKING
    );
  }

  /** Its power is what its work asks for: no cap, no slowdown, no change of load. */
  #isUnheld(gpu: number, frame: Float64Array): boolean {
    const at = gpu * FRAME_WIDTH;
    const reasons = frame[at + FRAME.reasons]!;
    if (!Number.isNaN(reasons) && (reasons & HELD_BACK & ~IDLE_BIT) !== 0) return false;
    return Math.abs(workOf(frame, at) - this.#work[gpu]!) < STEADY && this.filter.changeOf(gpu) < SETTLED;
  }
}

/** The share of SMs at work says more than the share of time: taken where it is given. */
function workOf(frame: Float64Array, at: number): number {
  const work = frame[at + FRAME.work]!;
  return Number.isNaN(work) ? frame[at + FRAME.busy]! : work;
}
