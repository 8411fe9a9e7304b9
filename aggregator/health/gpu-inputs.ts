import { type Labels, labelOf } from '#shared/model/dictionary.ts';

/** A series that health looks at. */
interface InputSeries {
  readonly metric: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const INPUT_SERIES = {
  core: { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' } },
  hotspot: { metric: 'gpu_temperature_celsius', labels: { sensor: 'hotspot' } },
  memory: { metric: 'gpu_temperature_celsius', labels: { sensor: 'memory' } },
  margin: { metric: 'gpu_temperature_margin_celsius' },
  slowdownLimit: { metric: 'gpu_temperature_limit_celsius', labels: { limit: 'slowdown' } },
  memoryLimit: { metric: 'gpu_temperature_limit_celsius', labels: { limit: 'memory_max_operating' } },
  power: { metric: 'gpu_power_watts' },
  powerLimit: { metric: 'gpu_power_limit_watts', labels: { limit: 'enforced' } },
  clockReasons: { metric: 'gpu_clock_event_reasons' },
  hwThermal: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_thermal' } },
  swThermal: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'sw_thermal' } },
  powerBrake: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_power_brake' } },
  eccUncorrected: { metric: 'gpu_ecc_errors_total', labels: { type: 'uncorrected', scope: 'volatile' } },
  remapPending: { metric: 'gpu_row_remap_pending' },
  remapFailed: { metric: 'gpu_row_remap_failed' },
  remappedRows: { metric: 'gpu_remapped_rows', labels: { cause: 'uncorrectable' } },
  banksLow: { metric: 'gpu_remap_banks', labels: { availability: 'low' } },
  banksNone: { metric: 'gpu_remap_banks', labels: { availability: 'none' } },
  sramExceeded: { metric: 'gpu_sram_ecc_threshold_exceeded' },
  unrepairable: { metric: 'gpu_memory_unrepairable' },
  pagesPending: { metric: 'gpu_retired_pages_pending' },
  pagesSbe: { metric: 'gpu_retired_pages', labels: { cause: 'sbe' } },
  pagesDbe: { metric: 'gpu_retired_pages', labels: { cause: 'dbe' } },
  pcieReplays: { metric: 'gpu_pcie_replay_total' },
  pcieWidth: { metric: 'gpu_pcie_link_width' },
  pcieWidthMax: { metric: 'gpu_pcie_link_width_max' },
  recoveryAction: { metric: 'gpu_recovery_action' },
  up: { metric: 'gpu_up' },
} as const satisfies Record<string, InputSeries>;

export type InputName = keyof typeof INPUT_SERIES;

const NAMES = Object.keys(INPUT_SERIES) as InputName[];
export const INPUTS = NAMES.length;

/** Index of each input in a GPU's arrays. */
export const INPUT = Object.fromEntries(NAMES.map((name, index) => [name, index])) as Record<
  InputName,
  number
>;

/** Inputs by metric, so that compiling a dictionary looks each series up once. */
const BY_METRIC = new Map<string, { index: number; labels: Readonly<Record<string, string>> }[]>();
for (const [index, name] of NAMES.entries()) {
  const series: InputSeries = INPUT_SERIES[name];
  const list = BY_METRIC.get(series.metric) ?? [];
  list.push({ index, labels: series.labels ?? {} });
  BY_METRIC.set(series.metric, list);
}

/** The input that a series is, or -1. A slice's series is not one: health is of the whole GPU. */
export function inputOf(metric: string, labels: Labels): number {
  const candidates = BY_METRIC.get(metric);
  if (candidates === undefined || labelOf(labels, 'mig_id') !== undefined) return -1;
  for (const { index, labels: wanted } of candidates) {
    if (Object.entries(wanted).every(([name, value]) => labelOf(labels, name) === value)) return index;
  }
  return -1;
}
