import { type Labels, labelOf } from '#shared/model/dictionary.ts';

/** What a counter of ills is watched with. */
export interface CounterWatch {
  /** How much of the unit is one event: 1, or seconds for counters of time. */
  readonly quantum: number;
  /** Events a day and GPU that are expected before anything is known of the GPU. */
  readonly perDay: number;
  /** Fewer in a window are no news, however rare they are. */
  readonly least: number;
  /** Only these of a label's values. */
  readonly only?: readonly [label: string, values: readonly string[]];
}

/**
 * Corrected errors: one a fortnight, as the memory of a healthy board shows; uncorrected: one in 88,768 GPU-hours (H100
 * of Delta, arXiv 2503.11901, which is the more frequent of its two models). The others: own judgement, to be
 * replaced by what the GPU itself shows within days.
 */
const CORRECTED: CounterWatch = { quantum: 1, perDay: 1 / 14, least: 3 };
const UNCORRECTED: CounterWatch = { quantum: 1, perDay: 24 / 88_768, least: 1 };
const LINK: CounterWatch = { quantum: 1, perDay: 0.1, least: 3 };
/** Ten seconds of slowdown are one event. */
const SLOWED: CounterWatch = {
  quantum: 10,
  perDay: 0.05,
  least: 1,
  only: ['reason', ['hw_thermal', 'sw_thermal', 'hbm_thermal', 'hw_power_brake']],
};

/**
 * Counters of ills, and gauges that only rise when something broke. Bytes, energy and the time under a power cap follow
 * jobs and policy: they are not here.
 */
const WATCHES: Readonly<Record<string, CounterWatch>> = {
  gpu_ecc_errors_by_location_total: CORRECTED,
  gpu_retired_pages: UNCORRECTED,
  gpu_retired_pages_pending: UNCORRECTED,
  gpu_remapped_rows: UNCORRECTED,
  gpu_row_remap_pending: UNCORRECTED,
  gpu_row_remap_failed: UNCORRECTED,
  gpu_sram_ecc_threshold_exceeded: UNCORRECTED,
  gpu_memory_unrepairable: UNCORRECTED,
  gpu_clock_event_seconds_total: SLOWED,
  gpu_pcie_replay_total: LINK,
  gpu_pcie_replay_rollover_total: LINK,
  gpu_pcie_recovery_total: LINK,
  gpu_pcie_nak_total: LINK,
  gpu_pcie_correctable_errors_total: LINK,
  gpu_link_crc_flit_errors_total: LINK,
  gpu_link_crc_data_errors_total: LINK,
  gpu_link_replay_errors_total: LINK,
  gpu_link_recovery_errors_total: LINK,
  gpu_link_recovery_failed_total: LINK,
  gpu_link_symbol_errors_total: LINK,
  gpu_link_integrity_errors_total: LINK,
};

/** How a series is watched for its rate, or undefined. */
export function counterWatchOf(name: string, labels: Labels): CounterWatch | undefined {
  if (name === 'gpu_ecc_errors_total' || name === 'gpu_ecc_errors_by_location_total')
    return labelOf(labels, 'type') === 'corrected' ? CORRECTED : UNCORRECTED;
  const watch = WATCHES[name];
  if (watch?.only === undefined) return watch;
  const [label, values] = watch.only;
  return values.includes(labelOf(labels, label) ?? '') ? watch : undefined;
}
