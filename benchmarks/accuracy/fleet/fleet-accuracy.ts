import type { BenchMetrics, BenchOptions } from '../../bench-case.ts';
import { WEEK_SECONDS } from './fleet-plan.ts';
import { figuresOf, recallOf, showsInSamples, tableOf } from './fleet-report.ts';
import { reportingSeed } from './fleet-seeds.ts';
import { type FleetResult, type FleetSize, measureFleet } from './measure-fleet.ts';
import { PREVALENCES, precisionAt, upperRate } from './precision.ts';

/** 26 faults of each of 16 kinds; 4,032 GPU-weeks without any. */
const FULL: FleetSize = { faults: 416, quietNodes: 504, quietSeconds: WEEK_SECONDS };
const TINY: FleetSize = { faults: 4, quietNodes: 2, quietSeconds: 6 * 3600 };

/**
 * What health and detection, as shipped, make of a simulated fleet read every 30 s: how many injected faults they find
 * and how soon, and how often they call somebody for nothing.
 */
export async function fleetAccuracy({ seed, tiny, log }: BenchOptions): Promise<BenchMetrics> {
  const result = await measureFleet(reportingSeed(seed), tiny ? TINY : FULL, log);
  const metrics = metricsOf(result);
  for (const line of tableOf(result)) log(line);
  logSummary(result, metrics, log);
  return metrics;
}

function metricsOf({ findings, samplesAlone, falseAlarms, gpuWeeks }: FleetResult): BenchMetrics {
  const recall = recallOf(findings);
  const rate = falseAlarms.length / gpuWeeks;
  const metrics: BenchMetrics = {
    fleet_recall: recall,
    fleet_recall_samples_alone: recallOf(samplesAlone.filter(showsInSamples)),
    fleet_injected: findings.length,
    fleet_gpu_weeks: gpuWeeks,
    false_alarms_per_gpu_week: rate,
    false_alarms_per_gpu_week_at_most: upperRate(falseAlarms.length, gpuWeeks),
  };
  for (const one of PREVALENCES) metrics[`precision_at_${one.name}_ratio`] = precisionAt(one, recall, rate);
  for (const { kind, found, medianDelaySeconds } of figuresOf(findings))
    if (found > 0) metrics[`delay_seconds_${kind}`] = medianDelaySeconds;
  for (const { kind, found, medianDelaySeconds } of figuresOf(samplesAlone))
    if (found > 0) metrics[`delay_seconds_samples_alone_${kind}`] = medianDelaySeconds;
  return metrics;
}

function logSummary(result: FleetResult, metrics: BenchMetrics, log: (line: string) => void): void {
  const { findings, samplesAlone, falseAlarms, earlyAlarms, gpuWeeks } = result;
  const upper = upperRate(falseAlarms.length, gpuWeeks);
  const elsewhere = findings.filter((one) => one.elsewhere.length > 0).length;
  log(
    `  recall ${share(metrics.fleet_recall!)} of ${findings.length} faults; without their events ${share(metrics.fleet_recall_samples_alone!)} of ${samplesAlone.filter(showsInSamples).length} that show in samples`,
  );
  log(
    `  ${falseAlarms.length} false alarms in ${gpuWeeks.toFixed(0)} GPU-weeks without a fault: ${metrics.false_alarms_per_gpu_week!.toFixed(5)} a GPU-week, at most ${upper.toFixed(5)} (95 %)`,
  );
  log(
    `  on nodes with a fault: ${earlyAlarms.length} alarms before it; in ${elsewhere} faults another GPU of the node was named too`,
  );
  for (const one of PREVALENCES) {
    const worst = precisionAt(one, metrics.fleet_recall!, upper);
    log(
      `  precision ${share(metrics[`precision_at_${one.name}_ratio`]!)}, at least ${share(worst)} (95 %), at ${one.source}`,
    );
  }
}

function share(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}
