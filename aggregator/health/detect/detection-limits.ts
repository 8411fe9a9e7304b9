import { CHANNEL_COUNT, CHANNELS, LEVEL_FLOOR, SHIFT_FLOOR } from './channels.ts';
import type { DetectionSettings } from './detection-settings.ts';
import { TailBudget } from './tail-budget.ts';

/** How the budget of false alarms is shared. Own judgement: most of what can be wrong is wrong with gauges. */
const GAUGE_SHARE = 0.5;
const COUNTER_SHARE = 0.25;
const FROZEN_SHARE = 0.2;
/** Samples of a GPU in a week at 30 s; at shorter intervals the times for persisting make up for the larger number. */
const SAMPLES_PER_WEEK = 20_160;
/** Counters that count anything at all on a healthy GPU, times the days of a week. */
const COUNTER_TESTS_PER_WEEK = 28;
const SENSORS = 4;

/** Limits of one channel, as the tail of what all GPUs show sets them. */
export interface ChannelLimits {
  readonly sigma: number;
  readonly persistMs: number;
  readonly side: number;
  level: number;
  shift: number;
}

/** The thresholds of all block detectors: budget, floors, and what the settings say of a metric. */
export class DetectionLimits {
  readonly channels: readonly ChannelLimits[];
  /** Surprise in nats at which a counter's rate, or a sensor's repeating, is news. */
  readonly rate: number;
  readonly frozen: number;
  readonly #times: ReadonlyMap<string, number>;
  readonly #levels: readonly TailBudget[];
  readonly #shifts: readonly TailBudget[];

  constructor(settings: DetectionSettings) {
    const budget = settings.false_alarms_per_gpu_week;
    this.#times = new Map(Object.entries(settings.metrics).map(([metric, { times }]) => [metric, times]));
    const chance = (budget * GAUGE_SHARE) / (2 * CHANNEL_COUNT * SAMPLES_PER_WEEK);
    this.#levels = CHANNELS.map(({ metric }) => new TailBudget(LEVEL_FLOOR * this.timesOf(metric), chance));
    this.#shifts = CHANNELS.map(({ metric }) => new TailBudget(SHIFT_FLOOR * this.timesOf(metric), chance));
    this.channels = CHANNELS.map(({ metric, sigma, persistMs, side }, i) => ({
      sigma: Math.max(sigma, (settings.metrics[metric]?.floor ?? 0) / LEVEL_FLOOR),
      persistMs,
      side,
      level: this.#levels[i]!.threshold,
      shift: this.#shifts[i]!.threshold,
    }));
    this.rate = Math.log(COUNTER_TESTS_PER_WEEK / (budget * COUNTER_SHARE));
    this.frozen = Math.log((SAMPLES_PER_WEEK * SENSORS) / (budget * FROZEN_SHARE));
  }

  timesOf(metric: string): number {
    return this.#times.get(metric) ?? 1;
  }

  /** What a GPU without an incident showed. */
  note(channel: number, z: number, cusum: number): void {
    const level = this.#levels[channel]!;
    const shift = this.#shifts[channel]!;
    level.note(Math.abs(z));
    shift.note(cusum);
    const limits = this.channels[channel]!;
    limits.level = level.threshold;
    limits.shift = shift.threshold;
  }
}
