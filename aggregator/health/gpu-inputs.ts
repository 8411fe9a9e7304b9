import { type Labels, labelOf } from '#shared/model/dictionary.ts';

/** How the slots of one tick become one value, where an input is more than one series (links). */
type Combine = 'sum' | 'max' | 'ups' | 'downs';

/** A series that health looks at. */
interface InputSeries {
  readonly metric: string | readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Counts what happened: its increase is what matters. */
  readonly counter?: true;
  /** A change is scored at once, not at the GPU's next turn. */
  readonly urgent?: true;
  readonly combine?: Combine;
}

const INPUT_SERIES = {
  // In front, so that what follows in a tick is judged by the load of the same tick.
  utilization: { metric: 'gpu_utilization_ratio', labels: { task: 'general' } },
  smActive: { metric: 'gpu_sm_active_ratio' },
  powerLimit: { metric: 'gpu_power_limit_watts', labels: { limit: 'enforced' } },
  core: { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' } },
  hotspot: { metric: 'gpu_temperature_celsius', labels: { sensor: 'hotspot' } },
  memory: { metric: 'gpu_temperature_celsius', labels: { sensor: 'memory' } },
  margin: { metric: 'gpu_temperature_margin_celsius' },
  maxOperatingLimit: { metric: 'gpu_temperature_limit_celsius', labels: { limit: 'max_operating' } },
  slowdownLimit: { metric: 'gpu_temperature_limit_celsius', labels: { limit: 'slowdown' } },
  memoryLimit: { metric: 'gpu_temperature_limit_celsius', labels: { limit: 'memory_max_operating' } },
  power: { metric: 'gpu_power_watts' },
  clockReasons: { metric: 'gpu_clock_event_reasons', urgent: true },
  hwThermal: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_thermal' }, counter: true },
  swThermal: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'sw_thermal' }, counter: true },
  powerBrake: {
    metric: 'gpu_clock_event_seconds_total',
    labels: { reason: 'hw_power_brake' },
    counter: true,
  },
  memoryTotal: { metric: 'gpu_memory_total_bytes' },
  eccUncorrected: {
    metric: 'gpu_ecc_errors_total',
    labels: { type: 'uncorrected', scope: 'volatile' },
    counter: true,
    urgent: true,
  },
  eccUncorrectedLife: {
    metric: 'gpu_ecc_errors_total',
    labels: { type: 'uncorrected', scope: 'aggregate' },
    counter: true,
    urgent: true,
  },
  eccCorrected: {
    metric: 'gpu_ecc_errors_total',
    labels: { type: 'corrected', scope: 'volatile' },
    counter: true,
  },
  remapPending: { metric: 'gpu_row_remap_pending', urgent: true },
  remapFailed: { metric: 'gpu_row_remap_failed', urgent: true },
  remappedRows: { metric: 'gpu_remapped_rows', labels: { cause: 'uncorrectable' } },
  banksLow: { metric: 'gpu_remap_banks', labels: { availability: 'low' } },
  banksNone: { metric: 'gpu_remap_banks', labels: { availability: 'none' } },
  sramExceeded: { metric: 'gpu_sram_ecc_threshold_exceeded', urgent: true },
  unrepairable: { metric: 'gpu_memory_unrepairable', urgent: true },
  pagesPending: { metric: 'gpu_retired_pages_pending', urgent: true },
  pagesSbe: { metric: 'gpu_retired_pages', labels: { cause: 'sbe' } },
  pagesDbe: { metric: 'gpu_retired_pages', labels: { cause: 'dbe' } },
  badPages: { metric: 'gpu_bad_page_threshold_ratio', urgent: true },
  pcieReplays: { metric: 'gpu_pcie_replay_total', counter: true },
  pcieWidthMax: { metric: 'gpu_pcie_link_width_max' },
  pcieWidth: { metric: 'gpu_pcie_link_width' },
  pcieGenerationMax: { metric: 'gpu_pcie_link_generation_max' },
  pcieGeneration: { metric: 'gpu_pcie_link_generation' },
  linkErrors: {
    metric: [
      'gpu_link_crc_flit_errors_total',
      'gpu_link_crc_data_errors_total',
      'gpu_link_replay_errors_total',
      'gpu_link_recovery_errors_total',
    ],
    counter: true,
    combine: 'sum',
  },
  linkBitErrors: { metric: 'gpu_link_effective_ber_ratio', combine: 'max' },
  linksUp: { metric: 'gpu_link_state', combine: 'ups' },
  linksDown: { metric: 'gpu_link_state', combine: 'downs', urgent: true },
  recoveryAction: { metric: 'gpu_recovery_action', urgent: true },
  up: { metric: 'gpu_up', urgent: true },
} as const satisfies Record<string, InputSeries>;

export type InputName = keyof typeof INPUT_SERIES;

const NAMES = Object.keys(INPUT_SERIES) as InputName[];
const SERIES: readonly InputSeries[] = NAMES.map((name) => INPUT_SERIES[name]);
export const INPUTS = NAMES.length;

/** Index of each input in a GPU's arrays. */
export const INPUT = Object.fromEntries(NAMES.map((name, index) => [name, index])) as Record<
  InputName,
  number
>;

/** By input, 1 or 0. */
export const IS_COUNTER = Uint8Array.from(SERIES, ({ counter }) => (counter ? 1 : 0));
export const IS_URGENT = Uint8Array.from(SERIES, ({ urgent }) => (urgent ? 1 : 0));
/** By input: how several series become one value; undefined where it is one series. */
export const COMBINES: readonly (Combine | undefined)[] = SERIES.map(({ combine }) => combine);

/** Inputs by metric, so that compiling a dictionary looks each series up once. */
const BY_METRIC = new Map<string, { index: number; labels: Readonly<Record<string, string>> }[]>();
for (const [index, series] of SERIES.entries()) {
  for (const metric of [series.metric].flat()) {
    const list = BY_METRIC.get(metric) ?? [];
    list.push({ index, labels: series.labels ?? {} });
    BY_METRIC.set(metric, list);
  }
}

const NONE: readonly number[] = [];

/** The inputs that a series is part of. A slice's series is none: health is of the whole GPU. */
export function inputsOf(metric: string, labels: Labels): readonly number[] {
  const candidates = BY_METRIC.get(metric);
  if (candidates === undefined || labelOf(labels, 'mig_id') !== undefined) return NONE;
  return candidates
    .filter(({ labels: wanted }) =>
      Object.entries(wanted).every(([name, value]) => labelOf(labels, name) === value),
    )
    .map(({ index }) => index);
}

/** Link states (gpu_link_state): 2, disabled, is how somebody set it up. */
const LINK_DOWN = 0;
const LINK_UP = 1;

/** Adds one series' value to an input's. */
export function combined(how: Combine, before: number, value: number): number {
  switch (how) {
    case 'sum':
      return before + value;
    case 'max':
      return Math.max(before, value);
    case 'ups':
      return before + (value === LINK_UP ? 1 : 0);
    case 'downs':
      return before + (value === LINK_DOWN ? 1 : 0);
  }
}
