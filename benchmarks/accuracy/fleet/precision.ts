const DAYS_PER_WEEK = 7;
const WEEKS_PER_YEAR = 365.25 / DAYS_PER_WEEK;

/** How often GPUs really fail: what precision depends on as much as on the detectors. */
export interface Prevalence {
  readonly name: string;
  readonly faultsPerGpuWeek: number;
  readonly source: string;
}

export const PREVALENCES: readonly Prevalence[] = [
  {
    name: 'gpu_faults',
    faultsPerGpuWeek: 0.0908 / WEEKS_PER_YEAR,
    source:
      '0.0908 GPU and HBM faults a GPU-year: 220 in 54 days of 16,384 H100 (Llama Team, "The Llama 3 Herd of Models", 2024)',
  },
  {
    name: 'node_faults',
    faultsPerGpuWeek: (4.184 / 1000 / 8) * DAYS_PER_WEEK,
    source:
      '4.184 faults of any kind in 1000 node-days of eight GPUs: 584 in 348 days of 400 nodes (InfiniteHBD, SIGCOMM 2025)',
  },
];

/** Of the alarms, the share that tells of a fault. */
export function precisionAt(prevalence: Prevalence, recall: number, falseAlarmsPerGpuWeek: number): number {
  const found = recall * prevalence.faultsPerGpuWeek;
  return found === 0 ? 0 : found / (found + falseAlarmsPerGpuWeek);
}

/**
 * The rate that 95 % of fleets with as few events stay below (one-sided, Poisson): what "none in 4,000 GPU-weeks" may
 * still mean. Wilson and Hilferty's approximation of the chi-square quantile, within 3 % of the exact figure.
 */
export function upperRate(events: number, gpuWeeks: number): number {
  const n = events + 1;
  return (n * (1 - 1 / (9 * n) + 1.645 / (3 * Math.sqrt(n))) ** 3) / gpuWeeks;
}
