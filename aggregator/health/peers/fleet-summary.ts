import { FleetError } from '#shared/errors/fleet-error.ts';

/** Models that a summary carries; the rest are not summed up. More kinds of GPU than a fleet has. */
export const MAX_MODELS = 64;

/** Metrics of the fleet's distributions, with their fixed ranges: physical limits, so that shards' histograms add up. */
const FLEET_METRICS = {
  /** °C at work. */
  coreCelsius: { low: 0, high: 128, log: false },
  memoryCelsius: { low: 0, high: 128, log: false },
  /** MHz at work, not held down by a power limit. */
  smMegahertz: { low: 0, high: 4096, log: false },
  /** W without work. */
  idleWatts: { low: 0, high: 1024, log: false },
  /** Errors a day; bins of equal ratios from 0.01 to a million, and one below for none. */
  correctedPerDay: { low: 0.01, high: 1e6, log: true },
} as const;

export type FleetMetric = keyof typeof FLEET_METRICS;
const NAMES = Object.keys(FLEET_METRICS) as FleetMetric[];
/** Of each histogram: two degrees, 64 MHz, 16 W, a third of a factor of two. */
const BINS = 64;

/** One shard's share of the fleet, plain JSON: counts by bin, by metric, by model. */
export interface FleetSummary {
  readonly version: 1;
  readonly models: Readonly<Record<string, Readonly<Partial<Record<FleetMetric, readonly number[]>>>>>;
}

/** Counts values into histograms; `done` gives the summary. */
export class FleetSummaryBuilder {
  readonly #models = new Map<string, Map<FleetMetric, number[]>>();

  /** NaN is left out. */
  add(model: string, metric: FleetMetric, value: number): void {
    if (Number.isNaN(value)) return;
    const counts = this.#countsOf(model, metric);
    if (counts !== undefined) counts[binOf(metric, value)]!++;
  }

  /** Takes another shard's. Throws `invalid_input` where it is not a summary of this version. */
  merge(summary: FleetSummary): void {
    if (summary.version !== 1 || typeof summary.models !== 'object' || summary.models === null)
      throw new FleetError('invalid_input', 'Cannot merge a fleet summary of another version');
    for (const [model, metrics] of Object.entries(summary.models)) {
      for (const name of NAMES) {
        const other = metrics[name];
        if (other === undefined) continue;
        if (!isCounts(other))
          throw new FleetError(
            'invalid_input',
            `Cannot merge a fleet summary: ${name} is not ${BINS} counts`,
          );
        const counts = this.#countsOf(model, name);
        if (counts !== undefined) for (let bin = 0; bin < BINS; bin++) counts[bin]! += other[bin]!;
      }
    }
  }

  done(): FleetSummary {
    const models = Object.fromEntries(
      [...this.#models].map(([model, metrics]) => [model, Object.fromEntries(metrics)]),
    );
    return { version: 1, models };
  }

  #countsOf(model: string, metric: FleetMetric): number[] | undefined {
    let metrics = this.#models.get(model);
    if (metrics === undefined) {
      if (this.#models.size >= MAX_MODELS) return undefined;
      metrics = new Map();
      this.#models.set(model, metrics);
    }
    let counts = metrics.get(metric);
    if (counts === undefined) {
      counts = new Array<number>(BINS).fill(0);
      metrics.set(metric, counts);
    }
    return counts;
  }
}

/** All shards' as one. Throws as `FleetSummaryBuilder.merge`. */
export function mergeSummaries(summaries: readonly FleetSummary[]): FleetSummary {
  const builder = new FleetSummaryBuilder();
  for (const summary of summaries) builder.merge(summary);
  return builder.done();
}

/** The value below which this share of the model's GPUs lies, to within a bin; NaN where none was counted. */
export function fleetQuantile(
  summary: FleetSummary,
  model: string,
  metric: FleetMetric,
  quantile: number,
): number {
  const counts = Object.hasOwn(summary.models, model) ? summary.models[model]![metric] : undefined;
  if (counts === undefined) return Number.NaN;
  let total = 0;
  for (const count of counts) total += count;
  if (total === 0) return Number.NaN;
  const wanted = quantile * total;
  let seen = 0;
  for (let bin = 0; bin < BINS; bin++) {
    const count = counts[bin]!;
    if (count > 0 && seen + count >= wanted) return valueAt(metric, bin, (wanted - seen) / count);
    seen += count;
  }
  return FLEET_METRICS[metric].high;
}

function isCounts(counts: readonly number[]): boolean {
  return Array.isArray(counts) && counts.length === BINS && counts.every((count) => count >= 0);
}

function binOf(metric: FleetMetric, value: number): number {
  const { low, high, log } = FLEET_METRICS[metric];
  if (log) {
    if (value < low) return 0;
    return Math.min(BINS - 1, 1 + Math.floor(((BINS - 1) * Math.log(value / low)) / Math.log(high / low)));
  }
  return Math.min(BINS - 1, Math.max(0, Math.floor((BINS * (value - low)) / (high - low))));
}

function valueAt(metric: FleetMetric, bin: number, share: number): number {
  const { low, high, log } = FLEET_METRICS[metric];
  if (!log) return low + ((high - low) * (bin + share)) / BINS;
  return bin === 0 ? 0 : low * (high / low) ** ((bin - 1 + share) / (BINS - 1));
}
