import type { FrameName } from './gpu-frame.ts';

/** A gauge whose residual, after what explains it, is watched. */
export interface Channel {
  readonly target: FrameName;
  readonly metric: string;
  /** Least sigma, in the metric's unit: what the hall's day, rounding and timing make of a healthy GPU. */
  readonly sigma: number;
  /** Change over the whole range of load that is assumed before any is learned. */
  readonly slope: number;
  /** 1: only too much is unusual; -1: only too little. */
  readonly side: number;
  readonly persistMs: number;
  /** What all GPUs of a node show together is forgiven up to here: air, job and policy are theirs in common. */
  readonly common: number;
  /** Least drift in four hours; Infinity where a drift is no ill. */
  readonly drift: number;
}

/** Floors of |z| and of the CUSUM, in sigmas. The tail of what GPUs show raises them (see TailBudget). */
export const LEVEL_FLOOR = 5;
export const SHIFT_FLOOR = 14;

/**
 * The one table of gauges. What explains each: temperatures the power of the last minutes, the clock nothing (it is only
 * looked at while the GPU works and gives no reason for a lower one), power the share of SMs at work, a fan the
 * core's temperature. Raw power, utilisation and memory
 * follow jobs, and are not here.
 * Sigmas: 1.4 °C is a hall that swings by 1.5 °C in a day with integer readings; 1.5 % of a clock and 6 % of the
 * rated power are what silicon and timing do; a minute is two samples at 30 s; four minutes is what Minder
 * (NSDI 2025) waits before it blames a machine. Thresholds are own judgement.
 */
export const CHANNELS = [
  {
    target: 'core',
    metric: 'gpu_temperature_celsius',
    sigma: 1.4,
    slope: 45,
    side: 0,
    persistMs: 60_000,
    common: 5,
    drift: 8,
  },
  {
    target: 'memory',
    metric: 'gpu_temperature_celsius',
    sigma: 1.4,
    slope: 40,
    side: 0,
    persistMs: 60_000,
    common: 5,
    drift: 8,
  },
  {
    target: 'clock',
    metric: 'gpu_clock_hertz',
    sigma: 25e6,
    slope: 0,
    side: -1,
    persistMs: 90_000,
    common: 600e6,
    drift: Infinity,
  },
  {
    target: 'power',
    metric: 'gpu_power_watts',
    sigma: 40,
    slope: 600,
    side: 0,
    persistMs: 240_000,
    common: 200,
    drift: Infinity,
  },
  {
    target: 'fan',
    metric: 'gpu_fan_ratio',
    sigma: 0.05,
    slope: 0.5,
    side: 0,
    persistMs: 240_000,
    common: 0.5,
    drift: Infinity,
  },
] as const satisfies readonly Channel[];

export const CHANNEL_COUNT = CHANNELS.length;

interface Sensor {
  readonly target: FrameName;
  /** Index of a channel. */
  readonly expectedBy: number;
  readonly moved: number;
  readonly fine: boolean;
}

/**
 * Sensors that may freeze: what they should show, the least movement of that which none sleeps through, and whether the
 * sensor resolves its own noise (watts in thousandths do, whole degrees do not), so that repeating alone is news.
 */
export const SENSORS = [
  { target: 'core', expectedBy: 0, moved: 8, fine: false },
  { target: 'memory', expectedBy: 1, moved: 8, fine: false },
  { target: 'power', expectedBy: 3, moved: 150, fine: true },
  { target: 'instant', expectedBy: 3, moved: 150, fine: true },
] as const satisfies readonly Sensor[];

export const SENSOR_COUNT = SENSORS.length;

/** Conditions of a GPU that are plain to see. */
export const CONDITIONS = [
  { target: 'up', persistMs: 90_000 },
  { target: 'width', persistMs: 60_000 },
] as const satisfies readonly { target: FrameName; persistMs: number }[];

export const CONDITION_COUNT = CONDITIONS.length;

/** Of links: two samples at 30 s. */
export const LINK_PERSIST_MS = 60_000;

/** Bits that say why a clock is low (NVML, nvmlClocksEventReasons): all but the idle bit hold a working GPU back. */
export const HELD_BACK = 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100;
export const IDLE_BIT = 0x1;
