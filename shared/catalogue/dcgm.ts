import type { Labels } from '#shared/model/dictionary.ts';
import type { Metric } from './metric.ts';
import { metricNamed } from './metrics.ts';

/** How a canonical metric is read from a DCGM field as dcgm-exporter prints it. */
export interface DcgmField {
  readonly metric: Metric;
  /** Labels that the field's meaning adds, such as sensor="core". */
  readonly labels: Labels;
  /** Labels that the exporter gives on this field and that belong to the series: theirs to ours. */
  readonly labelsFrom: ReadonlyMap<string, string>;
  /** What the series is about: a GPU or one of its MIG instances, or an NVSwitch. */
  readonly entity: 'gpu' | 'switch';
  readonly width: DcgmWidth;
  readonly multiply: number;
  readonly divide: number;
}

/** Which blanks a field can give: see isDcgmBlank. */
export type DcgmWidth = 'narrow' | 'wide' | 'double' | 'unknown';

const INT32_BLANK = 0x7ffffff0;
const INT32_END = 2 ** 31;
/** 0x7ffffffffffffff0 is 2^63 as a float64; a little lower, for exporters that print few digits. */
const INT64_BLANK = 9.223e18;
const DOUBLE_BLANK = 2 ** 47;
/** DCGM has four blank values of each type and keeps sixteen. */
const RESERVED = 16;

/**
 * Whether DCGM said "nothing here" (blank, not found, not supported, not permitted) in the place of a value.
 * Source: dcgm_structs.h, INT32 from 0x7ffffff0, INT64 from 0x7ffffffffffffff0, FP64 from 140737488355328.0 (2^47).
 * They are ranges: the kind of blank is added to the first value, and a float64 on the way rounds the INT64 ones
 * to 9223372036854775808 (printed 9223372036854776000).
 *
 * - `narrow`: enums, flags, percentages, MiB, MHz, degrees and event counts. They have both integer blanks, since
 *   some come from 32-bit fields of the driver. A count that really passes 2^31 is wrongly blank for sixteen
 *   values. Anything else that is absurd (4294967295, 808334905) is not a blank but out of its metric's range.
 * - `wide`: bytes, nanoseconds, millijoules. 2^31 mJ is an hour at 600 W and 2^47 ns is 39 hours, so only the
 *   INT64 range is a blank.
 * - `double`: watts and ratios, where everything from 2^47 on is a blank.
 * - `unknown`: a DCGM field that the catalogue does not know. Only what is a blank in all likelihood: the
 *   sixteen values of INT32 and FP64, and the INT64 range.
 */
export function isDcgmBlank(value: number, width: DcgmWidth): boolean {
  if (value < INT32_BLANK || value === Number.POSITIVE_INFINITY) return false;
  if (value >= INT64_BLANK) return true;
  switch (width) {
    case 'narrow':
      return value < INT32_END;
    case 'wide':
      return false;
    case 'double':
      return value >= DOUBLE_BLANK;
    case 'unknown':
      return value < INT32_END || (value >= DOUBLE_BLANK && value < DOUBLE_BLANK + RESERVED);
  }
}

/** The value in the metric's base unit: one exact operation, so that 433 of 1000 is the float64 nearest to 0.433. */
export function toCanonical(field: DcgmField, value: number): number {
  return (value * field.multiply) / field.divide;
}

/** The catalogue's entry for a field in its old or its DCGM 4.6 spelling, or undefined. */
export function dcgmField(name: string): DcgmField | undefined {
  return fields.get(name);
}

type Convert = Pick<DcgmField, 'multiply' | 'divide'>;
const AS_IS: Convert = { multiply: 1, divide: 1 };
/** DCGM 4.6 calls some of these RATIO; the value is 0 to 100 all the same. */
const PERCENT: Convert = { multiply: 1, divide: 100 };
const MILLI: Convert = { multiply: 1, divide: 1000 };
const NANO: Convert = { multiply: 1, divide: 1e9 };
const MEGA: Convert = { multiply: 1e6, divide: 1 };
/** DCGM says MB and means MiB. */
const MEBI: Convert = { multiply: 1_048_576, divide: 1 };
/**
 * DCGM computes the NVLink "bandwidth total" as KiB per second / 1000 over its polling interval: a rate, which
 * goes down, although dcgm-exporter types it counter. DCGM calls the unit MB/s; by its code it is 1,024,000 B/s.
 */
const THOUSAND_KIB: Convert = { multiply: 1_024_000, divide: 1 };
/** Link series carry `nvlink`; on a GPU's own series, which have none, the value is the sum of its links. */
const LINK = { nvlink: 'link' };

function field(
  names: readonly string[],
  metricName: string,
  width: DcgmWidth,
  labels: Readonly<Record<string, string>> = {},
  convert: Convert = AS_IS,
  labelsFrom: Readonly<Record<string, string>> = {},
  entity: DcgmField['entity'] = 'gpu',
): (readonly [name: string, field: DcgmField])[] {
  const metric = metricNamed(metricName)!;
  const one = {
    metric,
    labels: Object.entries(labels),
    labelsFrom: new Map(Object.entries(labelsFrom)),
    entity,
    width,
    ...convert,
  };
  return names.map((name) => [name, one]);
}

/*
 * Old spelling first, then that of DCGM 4.6, which renamed about 300 fields; one name where they agree.
 * Not here, and so passed through under the exporter's name: fields that are text (name, serial, driver), which
 * the exporter gives as labels; the last SXid of an NVSwitch, whose value is a code and not a count; and the IMEX
 * daemon's state, which is not the state of its domain.
 */
// biome-ignore format: a table, one field a line
const table = [
  // Identity and state
  field(['DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION', 'DCGM_FI_DEV_GPU_RECOVERY_ACTION'], 'gpu_recovery_action', 'narrow'),
  field(['DCGM_FI_DEV_PSTATE', 'DCGM_FI_DEV_GPU_PSTATE'], 'gpu_pstate', 'narrow'),
  field(['DCGM_FI_DEV_PERSISTENCE_MODE', 'DCGM_FI_DEV_GPU_PERSISTENCE_MODE'], 'gpu_persistence_mode', 'narrow'),
  field(['DCGM_FI_DEV_MIG_MODE'], 'gpu_mig_enabled', 'narrow'),
  field(['DCGM_FI_DEV_ECC_CURRENT', 'DCGM_FI_DEV_ECC_MODE'], 'gpu_ecc_enabled', 'narrow'),
  field(['DCGM_FI_DEV_ECC_PENDING'], 'gpu_ecc_pending_enabled', 'narrow'),

  // Temperature
  field(['DCGM_FI_DEV_GPU_TEMP', 'DCGM_FI_DEV_GPU_TEMP_CELSIUS'], 'gpu_temperature_celsius', 'narrow', { sensor: 'core' }),
  field(['DCGM_FI_DEV_MEMORY_TEMP', 'DCGM_FI_DEV_MEMORY_TEMP_CELSIUS'], 'gpu_temperature_celsius', 'narrow', { sensor: 'memory' }),
  field(['DCGM_FI_DEV_GPU_TEMP_LIMIT', 'DCGM_FI_DEV_GPU_TEMP_MARGIN_CELSIUS'], 'gpu_temperature_margin_celsius', 'narrow'),
  field(['DCGM_FI_DEV_SLOWDOWN_TEMP', 'DCGM_FI_DEV_GPU_TEMP_SLOWDOWN_CELSIUS'], 'gpu_temperature_limit_celsius', 'narrow', { limit: 'slowdown' }),
  field(['DCGM_FI_DEV_SHUTDOWN_TEMP', 'DCGM_FI_DEV_GPU_TEMP_SHUTDOWN_CELSIUS'], 'gpu_temperature_limit_celsius', 'narrow', { limit: 'shutdown' }),
  field(['DCGM_FI_DEV_GPU_MAX_OP_TEMP', 'DCGM_FI_DEV_GPU_MAX_OP_TEMP_CELSIUS'], 'gpu_temperature_limit_celsius', 'narrow', { limit: 'max_operating' }),
  field(['DCGM_FI_DEV_MEM_MAX_OP_TEMP', 'DCGM_FI_DEV_MEMORY_MAX_OP_TEMP_CELSIUS'], 'gpu_temperature_limit_celsius', 'narrow', { limit: 'memory_max_operating' }),
  field(['DCGM_FI_DEV_FAN_SPEED'], 'gpu_fan_ratio', 'narrow', {}, PERCENT),

  // Power and energy
  field(['DCGM_FI_DEV_POWER_USAGE', 'DCGM_FI_DEV_BOARD_POWER_WATTS'], 'gpu_power_watts', 'double'),
  field(['DCGM_FI_DEV_POWER_USAGE_INSTANT', 'DCGM_FI_DEV_BOARD_POWER_RAW_WATTS'], 'gpu_power_instant_watts', 'double'),
  field(['DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION'], 'gpu_energy_joules_total', 'wide', {}, MILLI),
  field(['DCGM_FI_DEV_POWER_MGMT_LIMIT', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS'], 'gpu_power_limit_watts', 'double', { limit: 'requested' }),
  field(['DCGM_FI_DEV_ENFORCED_POWER_LIMIT', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS'], 'gpu_power_limit_watts', 'double', { limit: 'enforced' }),
  field(['DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_DEFAULT_WATTS'], 'gpu_power_limit_watts', 'double', { limit: 'default' }),
  field(['DCGM_FI_DEV_POWER_MGMT_LIMIT_MIN', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_MIN_WATTS'], 'gpu_power_limit_watts', 'double', { limit: 'min' }),
  field(['DCGM_FI_DEV_POWER_MGMT_LIMIT_MAX', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_MAX_WATTS'], 'gpu_power_limit_watts', 'double', { limit: 'max' }),

  // Clocks
  field(['DCGM_FI_DEV_SM_CLOCK'], 'gpu_clock_hertz', 'narrow', { domain: 'sm' }, MEGA),
  field(['DCGM_FI_DEV_MEM_CLOCK'], 'gpu_clock_hertz', 'narrow', { domain: 'memory' }, MEGA),
  field(['DCGM_FI_DEV_VIDEO_CLOCK'], 'gpu_clock_hertz', 'narrow', { domain: 'video' }, MEGA),
  field(['DCGM_FI_DEV_MAX_SM_CLOCK'], 'gpu_clock_limit_hertz', 'narrow', { domain: 'sm', limit: 'max' }, MEGA),
  field(['DCGM_FI_DEV_MAX_MEM_CLOCK'], 'gpu_clock_limit_hertz', 'narrow', { domain: 'memory', limit: 'max' }, MEGA),
  field(['DCGM_FI_DEV_CLOCK_THROTTLE_REASONS', 'DCGM_FI_DEV_CLOCKS_EVENT_REASONS'], 'gpu_clock_event_reasons', 'narrow'),
  field(['DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'sw_power_cap' }, NANO),
  field(['DCGM_FI_DEV_POWER_VIOLATION'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'sw_power_cap' }, NANO),
  field(['DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'hw_thermal' }, NANO),
  field(['DCGM_FI_DEV_THERMAL_VIOLATION'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'hw_thermal' }, NANO),
  field(['DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'sw_thermal' }, NANO),
  field(['DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'hw_power_brake' }, NANO),
  field(['DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'sync_boost' }, NANO),
  field(['DCGM_FI_DEV_SYNC_BOOST_VIOLATION'], 'gpu_clock_event_seconds_total', 'wide', { reason: 'sync_boost' }, NANO),
  field(['DCGM_FI_DEV_BOARD_LIMIT_VIOLATION'], 'gpu_violation_seconds_total', 'wide', { kind: 'board_limit' }, NANO),
  field(['DCGM_FI_DEV_LOW_UTIL_VIOLATION'], 'gpu_violation_seconds_total', 'wide', { kind: 'low_util' }, NANO),
  field(['DCGM_FI_DEV_RELIABILITY_VIOLATION'], 'gpu_violation_seconds_total', 'wide', { kind: 'reliability' }, NANO),
  field(['DCGM_FI_DEV_TOTAL_APP_CLOCKS_VIOLATION'], 'gpu_violation_seconds_total', 'wide', { kind: 'app_clocks' }, NANO),
  field(['DCGM_FI_DEV_TOTAL_BASE_CLOCKS_VIOLATION'], 'gpu_violation_seconds_total', 'wide', { kind: 'base_clocks' }, NANO),
  field(['DCGM_EXP_CLOCK_EVENTS_COUNT'], 'gpu_clock_events_recent', 'narrow', {}, AS_IS, { clock_event: 'reason', window_size_in_ms: 'window_ms' }),

  // Utilisation
  field(['DCGM_FI_DEV_GPU_UTIL', 'DCGM_FI_DEV_GPU_UTIL_RATIO'], 'gpu_utilization_ratio', 'narrow', { task: 'general' }, PERCENT),
  field(['DCGM_FI_DEV_ENC_UTIL'], 'gpu_utilization_ratio', 'narrow', { task: 'encoder' }, PERCENT),
  field(['DCGM_FI_DEV_DEC_UTIL'], 'gpu_utilization_ratio', 'narrow', { task: 'decoder' }, PERCENT),
  field(['DCGM_FI_DEV_MEM_COPY_UTIL'], 'gpu_memory_controller_utilization_ratio', 'narrow', {}, PERCENT),
  field(['DCGM_FI_PROF_GR_ENGINE_ACTIVE', 'DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO'], 'gpu_engine_active_ratio', 'double'),
  field(['DCGM_FI_PROF_SM_ACTIVE', 'DCGM_FI_PROF_SM_UTIL_RATIO'], 'gpu_sm_active_ratio', 'double'),
  field(['DCGM_FI_PROF_SM_OCCUPANCY', 'DCGM_FI_PROF_SM_OCCUPANCY_RATIO'], 'gpu_sm_occupancy_ratio', 'double'),
  field(['DCGM_FI_PROF_PIPE_TENSOR_ACTIVE', 'DCGM_FI_PROF_TENSOR_UTIL_RATIO'], 'gpu_tensor_active_ratio', 'double'),
  field(['DCGM_FI_PROF_DRAM_ACTIVE', 'DCGM_FI_PROF_DRAM_UTIL_RATIO'], 'gpu_dram_active_ratio', 'double'),
  field(['DCGM_FI_PROF_PIPE_FP64_ACTIVE', 'DCGM_FI_PROF_FP64_UTIL_RATIO'], 'gpu_pipe_active_ratio', 'double', { pipe: 'fp64' }),
  field(['DCGM_FI_PROF_PIPE_FP32_ACTIVE', 'DCGM_FI_PROF_FP32_UTIL_RATIO'], 'gpu_pipe_active_ratio', 'double', { pipe: 'fp32' }),
  field(['DCGM_FI_PROF_PIPE_FP16_ACTIVE', 'DCGM_FI_PROF_FP16_UTIL_RATIO'], 'gpu_pipe_active_ratio', 'double', { pipe: 'fp16' }),

  // Memory
  field(['DCGM_FI_DEV_FB_TOTAL'], 'gpu_memory_total_bytes', 'narrow', {}, MEBI),
  field(['DCGM_FI_DEV_FB_USED'], 'gpu_memory_used_bytes', 'narrow', {}, MEBI),
  field(['DCGM_FI_DEV_FB_FREE'], 'gpu_memory_free_bytes', 'narrow', {}, MEBI),
  field(['DCGM_FI_DEV_FB_RESERVED'], 'gpu_memory_reserved_bytes', 'narrow', {}, MEBI),
  field(['DCGM_FI_DEV_FB_USED_PERCENT', 'DCGM_FI_DEV_FB_USED_RATIO'], 'gpu_memory_utilization_ratio', 'double'),

  // Memory errors
  field(['DCGM_FI_DEV_ECC_SBE_AGG_TOTAL'], 'gpu_ecc_errors_total', 'narrow', { scope: 'aggregate', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_AGG_TOTAL'], 'gpu_ecc_errors_total', 'narrow', { scope: 'aggregate', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_VOL_TOTAL'], 'gpu_ecc_errors_total', 'narrow', { scope: 'volatile', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_VOL_TOTAL'], 'gpu_ecc_errors_total', 'narrow', { scope: 'volatile', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_VOL_DEV'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'dram', scope: 'volatile', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_VOL_DEV'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'dram', scope: 'volatile', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_AGG_DEV'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'dram', scope: 'aggregate', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_AGG_DEV'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'dram', scope: 'aggregate', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_VOL_L1'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'l1', scope: 'volatile', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_VOL_L1'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'l1', scope: 'volatile', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_VOL_L2'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'l2', scope: 'volatile', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_VOL_L2'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'l2', scope: 'volatile', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_ECC_SBE_VOL_REG'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'reg', scope: 'volatile', type: 'corrected' }),
  field(['DCGM_FI_DEV_ECC_DBE_VOL_REG'], 'gpu_ecc_errors_by_location_total', 'narrow', { location: 'reg', scope: 'volatile', type: 'uncorrected' }),
  field(['DCGM_FI_DEV_THRESHOLD_SRM', 'DCGM_FI_DEV_SRAM_EXCEEDED'], 'gpu_sram_ecc_threshold_exceeded', 'narrow'),
  field(['DCGM_FI_DEV_MEMORY_UNREPAIRABLE_FLAG', 'DCGM_FI_DEV_MEMORY_UNREPAIRABLE'], 'gpu_memory_unrepairable', 'narrow'),
  field(['DCGM_FI_DEV_RETIRED_SBE', 'DCGM_FI_DEV_PAGE_RETIRED_SBE_TOTAL'], 'gpu_retired_pages', 'narrow', { cause: 'sbe' }),
  field(['DCGM_FI_DEV_RETIRED_DBE', 'DCGM_FI_DEV_PAGE_RETIRED_DBE_TOTAL'], 'gpu_retired_pages', 'narrow', { cause: 'dbe' }),
  field(['DCGM_FI_DEV_RETIRED_PENDING', 'DCGM_FI_DEV_PAGE_RETIRED_PENDING'], 'gpu_retired_pages_pending', 'narrow'),
  field(['DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS', 'DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL'], 'gpu_remapped_rows', 'narrow', { cause: 'uncorrectable' }),
  field(['DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS', 'DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL'], 'gpu_remapped_rows', 'narrow', { cause: 'correctable' }),
  field(['DCGM_FI_DEV_ROW_REMAP_PENDING'], 'gpu_row_remap_pending', 'narrow'),
  field(['DCGM_FI_DEV_ROW_REMAP_FAILURE', 'DCGM_FI_DEV_ROW_REMAP_FAILED'], 'gpu_row_remap_failed', 'narrow'),
  field(['DCGM_FI_DEV_BANKS_REMAP_ROWS_AVAIL_MAX', 'DCGM_FI_DEV_BANK_REMAP_AVAIL_MAX'], 'gpu_remap_banks', 'narrow', { availability: 'max' }),
  field(['DCGM_FI_DEV_BANKS_REMAP_ROWS_AVAIL_HIGH', 'DCGM_FI_DEV_BANK_REMAP_AVAIL_HIGH'], 'gpu_remap_banks', 'narrow', { availability: 'high' }),
  field(['DCGM_FI_DEV_BANKS_REMAP_ROWS_AVAIL_PARTIAL', 'DCGM_FI_DEV_BANK_REMAP_AVAIL_PARTIAL'], 'gpu_remap_banks', 'narrow', { availability: 'partial' }),
  field(['DCGM_FI_DEV_BANKS_REMAP_ROWS_AVAIL_LOW', 'DCGM_FI_DEV_BANK_REMAP_AVAIL_LOW'], 'gpu_remap_banks', 'narrow', { availability: 'low' }),
  field(['DCGM_FI_DEV_BANKS_REMAP_ROWS_AVAIL_NONE', 'DCGM_FI_DEV_BANK_REMAP_AVAIL_NONE'], 'gpu_remap_banks', 'narrow', { availability: 'none' }),

  // Errors and events
  field(['DCGM_FI_DEV_XID_ERRORS', 'DCGM_FI_DEV_XID_ERROR'], 'gpu_xid_last', 'narrow', {}, AS_IS, { err_code: 'err_code', err_msg: 'err_msg' }),
  field(['DCGM_EXP_XID_ERRORS_COUNT'], 'gpu_xid_errors_recent', 'narrow', {}, AS_IS, { xid: 'xid', window_size_in_ms: 'window_ms' }),
  field(['DCGM_FI_DEV_P2P_NVLINK_STATUS', 'DCGM_FI_DEV_NVLINK_P2P_STATUS'], 'gpu_p2p_nvlink_status', 'narrow'),

  // PCIe
  field(['DCGM_FI_DEV_PCIE_REPLAY_COUNTER', 'DCGM_FI_DEV_PCIE_REPLAY_TOTAL'], 'gpu_pcie_replay_total', 'narrow'),
  field(['DCGM_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS', 'DCGM_FI_DEV_PCIE_CORRECTABLE_ERROR_TOTAL'], 'gpu_pcie_correctable_errors_total', 'narrow'),
  field(['DCGM_FI_DEV_PCIE_LINK_GEN'], 'gpu_pcie_link_generation', 'narrow'),
  field(['DCGM_FI_DEV_PCIE_MAX_LINK_GEN'], 'gpu_pcie_link_generation_max', 'narrow'),
  field(['DCGM_FI_DEV_PCIE_LINK_WIDTH'], 'gpu_pcie_link_width', 'narrow'),
  field(['DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH'], 'gpu_pcie_link_width_max', 'narrow'),
  field(['DCGM_FI_PROF_PCIE_TX_BYTES'], 'gpu_io_bytes_per_second', 'wide', { bus: 'pcie', direction: 'transmit' }),
  field(['DCGM_FI_PROF_PCIE_RX_BYTES'], 'gpu_io_bytes_per_second', 'wide', { bus: 'pcie', direction: 'receive' }),

  // NVLink / xGMI / fabric
  field(['DCGM_FI_PROF_NVLINK_TX_BYTES'], 'gpu_io_bytes_per_second', 'wide', { bus: 'nvlink', direction: 'transmit' }),
  field(['DCGM_FI_PROF_NVLINK_RX_BYTES'], 'gpu_io_bytes_per_second', 'wide', { bus: 'nvlink', direction: 'receive' }),
  field(['DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL', 'DCGM_FI_DEV_NVLINK_THROUGHPUT_TOTAL'], 'gpu_nvlink_throughput_bytes_per_second', 'narrow', {}, THOUSAND_KIB),
  field(['DCGM_FI_DEV_NVLINK_COUNT_TX_BYTES', 'DCGM_FI_DEV_NVLINK_TX_BYTES_TOTAL'], 'gpu_link_bytes_total', 'wide', { direction: 'transmit' }, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_RX_BYTES', 'DCGM_FI_DEV_NVLINK_RX_BYTES_TOTAL'], 'gpu_link_bytes_total', 'wide', { direction: 'receive' }, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_GET_STATE'], 'gpu_link_state', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL', 'DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_TOTAL'], 'gpu_link_crc_flit_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL', 'DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_TOTAL'], 'gpu_link_crc_data_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL', 'DCGM_FI_DEV_NVLINK_REPLAY_ERROR_TOTAL'], 'gpu_link_replay_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL', 'DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_TOTAL'], 'gpu_link_recovery_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS', 'DCGM_FI_DEV_NVLINK_RECOVERY_EVENT_TOTAL'], 'gpu_link_recovery_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS', 'DCGM_FI_DEV_NVLINK_RECOVERY_FAILED_TOTAL'], 'gpu_link_recovery_failed_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_RX_ERRORS', 'DCGM_FI_DEV_NVLINK_RX_ERROR_TOTAL'], 'gpu_link_rx_errors_total', 'narrow', { kind: 'errors' }, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_RX_MALFORMED_PACKET_ERRORS', 'DCGM_FI_DEV_NVLINK_RX_PACKET_MALFORMED_TOTAL'], 'gpu_link_rx_errors_total', 'narrow', { kind: 'malformed' }, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_RX_BUFFER_OVERRUN_ERRORS', 'DCGM_FI_DEV_NVLINK_RX_PACKET_DROPPED_TOTAL'], 'gpu_link_rx_errors_total', 'narrow', { kind: 'dropped' }, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_RX_SYMBOL_ERRORS', 'DCGM_FI_DEV_NVLINK_RX_SYMBOL_ERROR_TOTAL'], 'gpu_link_symbol_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS', 'DCGM_FI_DEV_NVLINK_INTEGRITY_ERROR_TOTAL'], 'gpu_link_integrity_errors_total', 'narrow', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_EFFECTIVE_BER_FLOAT', 'DCGM_FI_DEV_NVLINK_EFFECTIVE_BER_RATIO'], 'gpu_link_effective_ber_ratio', 'double', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_NVLINK_COUNT_SYMBOL_BER_FLOAT', 'DCGM_FI_DEV_NVLINK_SYMBOL_BER_RATIO'], 'gpu_link_symbol_ber_ratio', 'double', {}, AS_IS, LINK),
  field(['DCGM_FI_DEV_FABRIC_MANAGER_STATUS'], 'gpu_fabric_state', 'narrow'),
  field(['DCGM_FI_DEV_FABRIC_HEALTH_MASK'], 'gpu_fabric_health_mask', 'narrow'),
  field(['DCGM_FI_DEV_C2C_LINK_STATUS'], 'gpu_c2c_link_up', 'narrow'),
  field(['DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT', 'DCGM_FI_DEV_NVSWITCH_TEMP_CELSIUS'], 'nvswitch_temperature_celsius', 'narrow', {}, AS_IS, {}, 'switch'),
];

const fields: ReadonlyMap<string, DcgmField> = new Map(table.flat());
