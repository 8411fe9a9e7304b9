import type { CallName } from './calls.ts';

export const Group = { Fast: 0, Slow: 1 } as const;
export type Group = (typeof Group)[keyof typeof Group];

/** Reads a value from what a call wrote, `at` being where it wrote. */
export type Decode = (view: DataView, at: number) => number;

export type NvmlSource =
  /** A field of nvmlDeviceGetFieldValues; a field of each link has the link as its scope. */
  | { readonly field: number; readonly scope: number; readonly perLink: boolean; readonly ber: boolean }
  | { readonly call: CallName; readonly decode: Decode }
  /** Whether the GPU answers. */
  | { readonly up: true };

/** How a canonical series is read from NVML. Metric and labels are those of the same thing in shared/catalogue/dcgm.ts. */
export interface NvmlField {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly group: Group;
  readonly source: NvmlSource;
  readonly multiply: number;
  readonly divide: number;
}

type Labels = Readonly<Record<string, string>>;
type Convert = Pick<NvmlField, 'multiply' | 'divide'>;

const AS_IS: Convert = { multiply: 1, divide: 1 };
const MILLI: Convert = { multiply: 1, divide: 1000 };
const NANO: Convert = { multiply: 1, divide: 1e9 };
const PERCENT: Convert = { multiply: 1, divide: 100 };
const MEGA: Convert = { multiply: 1e6, divide: 1 };
const KIBI: Convert = { multiply: 1024, divide: 1 };

/** All links added: the scope that nvml.h gives for NVML_FI_DEV_NVLINK_THROUGHPUT_*. */
const ALL_LINKS = 0xffffffff;
/** NVML_POWER_SCOPE_MODULE. */
const MODULE = 1;

const u32 =
  (offset = 0): Decode =>
  (view, at) =>
    view.getUint32(at + offset, true);
const i32 =
  (offset = 0): Decode =>
  (view, at) =>
    view.getInt32(at + offset, true);
const u8 =
  (offset: number): Decode =>
  (view, at) =>
    view.getUint8(at + offset);
export const u64 =
  (offset = 0): Decode =>
  (view, at) =>
    view.getUint32(at + offset + 4, true) * 4_294_967_296 + view.getUint32(at + offset, true);
/** The second pointer of a call. */
const second = u32(8);
/** Of nvmlMemory_v2_t: used / (total - reserved), as DCGM computes FB_USED_PERCENT. */
const usedRatio: Decode = (view, at) => u64(32)(view, at) / (u64(8)(view, at) - u64(16)(view, at));

const of =
  (group: Group) =>
  (source: NvmlSource, metric: string, labels: Labels = {}, convert: Convert = AS_IS): NvmlField => ({
    metric,
    labels,
    group,
    source,
    ...convert,
  });
const fast = of(Group.Fast);
const slow = of(Group.Slow);
const field = (id: number, scope = 0): NvmlSource => ({ field: id, scope, perLink: false, ber: false });
const link = (id: number): NvmlSource => ({ field: id, scope: 0, perLink: true, ber: false });
const berOfLink = (id: number): NvmlSource => ({ field: id, scope: 0, perLink: true, ber: true });
const call = (name: CallName, decode: Decode = u32()): NvmlSource => ({ call: name, decode });

/**
 * Everything that is read, in order of slots. Where two lines give one series, the first that the GPU supports is
 * read. Numbers are the field ids (NVML_FI_*) of NVIDIA's public nvml.h (CUDA 12.9 and 13.0): they are part of the
 * library's interface and never change; a driver that does not know one says so.
 *
 * Not read: nvmlDeviceGetPcieThroughput, which blocks for 20 ms a direction and GPU (the byte counters 197 and 198 say
 * more for less), and the last Xid, which NVML only has as an event (the kernel log says more).
 */
// biome-ignore format: a table, one series a line
export const nvmlFields: readonly NvmlField[] = [
  fast({ up: true }, 'gpu_up'),

  // Temperature
  fast(call('temperature'), 'gpu_temperature_celsius', { sensor: 'core' }),
  fast(field(82), 'gpu_temperature_celsius', { sensor: 'memory' }),
  fast(call('margin', i32(4)), 'gpu_temperature_margin_celsius'),
  fast(call('fan'), 'gpu_fan_ratio', {}, PERCENT),
  // From Hopper on offsets to the T.Limit, before that degrees.
  slow(field(194), 'gpu_temperature_limit_celsius', { limit: 'slowdown' }),
  slow(call('slowdown'), 'gpu_temperature_limit_celsius', { limit: 'slowdown' }),
  slow(field(193), 'gpu_temperature_limit_celsius', { limit: 'shutdown' }),
  slow(call('shutdown'), 'gpu_temperature_limit_celsius', { limit: 'shutdown' }),
  slow(field(196), 'gpu_temperature_limit_celsius', { limit: 'max_operating' }),
  slow(call('gpuMax'), 'gpu_temperature_limit_celsius', { limit: 'max_operating' }),
  slow(field(195), 'gpu_temperature_limit_celsius', { limit: 'memory_max_operating' }),
  slow(call('memoryMax'), 'gpu_temperature_limit_celsius', { limit: 'memory_max_operating' }),

  // Power and energy
  fast(call('power'), 'gpu_power_watts', {}, MILLI),
  fast(field(186), 'gpu_power_instant_watts', {}, MILLI),
  fast(field(186, MODULE), 'gpu_module_power_watts', {}, MILLI),
  fast(field(83), 'gpu_energy_joules_total', {}, MILLI),
  slow(call('requestedLimit'), 'gpu_power_limit_watts', { limit: 'requested' }, MILLI),
  slow(call('enforcedLimit'), 'gpu_power_limit_watts', { limit: 'enforced' }, MILLI),
  slow(call('defaultLimit'), 'gpu_power_limit_watts', { limit: 'default' }, MILLI),
  slow(call('limitRange'), 'gpu_power_limit_watts', { limit: 'min' }, MILLI),
  slow(call('limitRange', second), 'gpu_power_limit_watts', { limit: 'max' }, MILLI),

  // Clocks
  fast(call('smClock'), 'gpu_clock_hertz', { domain: 'sm' }, MEGA),
  fast(call('memoryClock'), 'gpu_clock_hertz', { domain: 'memory' }, MEGA),
  fast(call('videoClock'), 'gpu_clock_hertz', { domain: 'video' }, MEGA),
  slow(call('maxSmClock'), 'gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, MEGA),
  slow(call('maxMemoryClock'), 'gpu_clock_limit_hertz', { domain: 'memory', limit: 'max' }, MEGA),
  fast(call('clockEvents', u64()), 'gpu_clock_event_reasons'),
  fast(field(74), 'gpu_clock_event_seconds_total', { reason: 'sw_power_cap' }, NANO),
  fast(field(252), 'gpu_clock_event_seconds_total', { reason: 'hw_thermal' }, NANO),
  fast(field(75), 'gpu_clock_event_seconds_total', { reason: 'hw_thermal' }, NANO),
  fast(field(251), 'gpu_clock_event_seconds_total', { reason: 'sw_thermal' }, NANO),
  fast(field(253), 'gpu_clock_event_seconds_total', { reason: 'hw_power_brake' }, NANO),
  fast(field(76), 'gpu_clock_event_seconds_total', { reason: 'sync_boost' }, NANO),
  fast(field(77), 'gpu_violation_seconds_total', { kind: 'board_limit' }, NANO),
  fast(field(78), 'gpu_violation_seconds_total', { kind: 'low_util' }, NANO),
  fast(field(79), 'gpu_violation_seconds_total', { kind: 'reliability' }, NANO),
  fast(field(80), 'gpu_violation_seconds_total', { kind: 'app_clocks' }, NANO),
  fast(field(81), 'gpu_violation_seconds_total', { kind: 'base_clocks' }, NANO),

  // Utilisation and memory
  fast(call('utilization'), 'gpu_utilization_ratio', { task: 'general' }, PERCENT),
  slow(call('encoder'), 'gpu_utilization_ratio', { task: 'encoder' }, PERCENT),
  slow(call('decoder'), 'gpu_utilization_ratio', { task: 'decoder' }, PERCENT),
  fast(call('utilization', u32(4)), 'gpu_memory_controller_utilization_ratio', {}, PERCENT),
  fast(call('memory', u64(8)), 'gpu_memory_total_bytes'),
  fast(call('oldMemory', u64(0)), 'gpu_memory_total_bytes'),
  fast(call('memory', u64(32)), 'gpu_memory_used_bytes'),
  fast(call('oldMemory', u64(16)), 'gpu_memory_used_bytes'),
  fast(call('memory', u64(24)), 'gpu_memory_free_bytes'),
  fast(call('oldMemory', u64(8)), 'gpu_memory_free_bytes'),
  fast(call('memory', u64(16)), 'gpu_memory_reserved_bytes'),
  fast(call('memory', usedRatio), 'gpu_memory_utilization_ratio'),

  // State
  fast(call('pstate'), 'gpu_pstate'),
  fast(field(230), 'gpu_recovery_action'),
  slow(call('persistence'), 'gpu_persistence_mode'),
  slow(call('mig'), 'gpu_mig_enabled'),
  slow(field(1), 'gpu_ecc_enabled'),
  slow(field(2), 'gpu_ecc_pending_enabled'),
  slow(call('fabric', u8(28)), 'gpu_fabric_state'),
  slow(call('fabric', u32(32)), 'gpu_fabric_health_mask'),

  // Memory errors. Uncorrected ones are read with the fast fields: they decide about a running job.
  slow(field(3), 'gpu_ecc_errors_total', { scope: 'volatile', type: 'corrected' }),
  fast(field(4), 'gpu_ecc_errors_total', { scope: 'volatile', type: 'uncorrected' }),
  slow(field(5), 'gpu_ecc_errors_total', { scope: 'aggregate', type: 'corrected' }),
  slow(field(6), 'gpu_ecc_errors_total', { scope: 'aggregate', type: 'uncorrected' }),
  slow(field(11), 'gpu_ecc_errors_by_location_total', { location: 'dram', scope: 'volatile', type: 'corrected' }),
  slow(field(12), 'gpu_ecc_errors_by_location_total', { location: 'dram', scope: 'volatile', type: 'uncorrected' }),
  slow(field(22), 'gpu_ecc_errors_by_location_total', { location: 'dram', scope: 'aggregate', type: 'corrected' }),
  slow(field(23), 'gpu_ecc_errors_by_location_total', { location: 'dram', scope: 'aggregate', type: 'uncorrected' }),
  slow(field(7), 'gpu_ecc_errors_by_location_total', { location: 'l1', scope: 'volatile', type: 'corrected' }),
  slow(field(8), 'gpu_ecc_errors_by_location_total', { location: 'l1', scope: 'volatile', type: 'uncorrected' }),
  slow(field(9), 'gpu_ecc_errors_by_location_total', { location: 'l2', scope: 'volatile', type: 'corrected' }),
  slow(field(10), 'gpu_ecc_errors_by_location_total', { location: 'l2', scope: 'volatile', type: 'uncorrected' }),
  slow(field(13), 'gpu_ecc_errors_by_location_total', { location: 'reg', scope: 'volatile', type: 'corrected' }),
  slow(field(14), 'gpu_ecc_errors_by_location_total', { location: 'reg', scope: 'volatile', type: 'uncorrected' }),
  slow(call('sramCorrectedVolatile', u64()), 'gpu_ecc_errors_by_location_total', { location: 'sram', scope: 'volatile', type: 'corrected' }),
  slow(call('sramUncorrectedVolatile', u64()), 'gpu_ecc_errors_by_location_total', { location: 'sram', scope: 'volatile', type: 'uncorrected' }),
  slow(call('sramCorrectedAggregate', u64()), 'gpu_ecc_errors_by_location_total', { location: 'sram', scope: 'aggregate', type: 'corrected' }),
  slow(call('sramUncorrectedAggregate', u64()), 'gpu_ecc_errors_by_location_total', { location: 'sram', scope: 'aggregate', type: 'uncorrected' }),
  slow(call('sramStatus', u32(96)), 'gpu_sram_ecc_threshold_exceeded'),
  slow(field(29), 'gpu_retired_pages', { cause: 'sbe' }),
  slow(field(30), 'gpu_retired_pages', { cause: 'dbe' }),
  slow(field(31), 'gpu_retired_pages_pending'),
  slow(field(142), 'gpu_remapped_rows', { cause: 'correctable' }),
  slow(field(143), 'gpu_remapped_rows', { cause: 'uncorrectable' }),
  slow(field(144), 'gpu_row_remap_pending'),
  slow(field(145), 'gpu_row_remap_failed'),
  slow(call('remapHistogram', u32(0)), 'gpu_remap_banks', { availability: 'max' }),
  slow(call('remapHistogram', u32(4)), 'gpu_remap_banks', { availability: 'high' }),
  slow(call('remapHistogram', u32(8)), 'gpu_remap_banks', { availability: 'partial' }),
  slow(call('remapHistogram', u32(12)), 'gpu_remap_banks', { availability: 'low' }),
  slow(call('remapHistogram', u32(16)), 'gpu_remap_banks', { availability: 'none' }),

  // PCIe
  fast(field(94), 'gpu_pcie_replay_total'),
  slow(field(95), 'gpu_pcie_replay_rollover_total'),
  slow(field(169), 'gpu_pcie_recovery_total'),
  slow(field(174), 'gpu_pcie_nak_total', { direction: 'receive' }),
  slow(field(177), 'gpu_pcie_nak_total', { direction: 'transmit' }),
  slow(field(173), 'gpu_pcie_correctable_errors_total'),
  slow(call('pcieGeneration'), 'gpu_pcie_link_generation'),
  slow(call('pcieWidth'), 'gpu_pcie_link_width'),
  slow(call('pcieGenerationMax'), 'gpu_pcie_link_generation_max'),
  slow(call('pcieWidthMax'), 'gpu_pcie_link_width_max'),
  fast(field(197), 'gpu_io_bytes_total', { bus: 'pcie', direction: 'transmit' }),
  fast(field(198), 'gpu_io_bytes_total', { bus: 'pcie', direction: 'receive' }),

  // NVLink
  fast(field(138, ALL_LINKS), 'gpu_io_bytes_total', { bus: 'nvlink', direction: 'transmit' }, KIBI),
  fast(field(139, ALL_LINKS), 'gpu_io_bytes_total', { bus: 'nvlink', direction: 'receive' }, KIBI),
  slow(link(165), 'gpu_link_state'),
  // NVLink 5, then NVLink 1 to 4
  slow(link(202), 'gpu_link_bytes_total', { direction: 'transmit' }),
  slow(link(138), 'gpu_link_bytes_total', { direction: 'transmit' }, KIBI),
  slow(link(204), 'gpu_link_bytes_total', { direction: 'receive' }),
  slow(link(139), 'gpu_link_bytes_total', { direction: 'receive' }, KIBI),
  slow(link(163), 'gpu_link_crc_flit_errors_total'),
  slow(link(161), 'gpu_link_replay_errors_total'),
  slow(link(215), 'gpu_link_recovery_errors_total'),
  slow(link(162), 'gpu_link_recovery_errors_total'),
  slow(link(214), 'gpu_link_recovery_failed_total'),
  slow(link(208), 'gpu_link_rx_errors_total', { kind: 'errors' }),
  slow(link(206), 'gpu_link_rx_errors_total', { kind: 'malformed' }),
  slow(link(207), 'gpu_link_rx_errors_total', { kind: 'dropped' }),
  slow(link(221), 'gpu_link_symbol_errors_total'),
  slow(link(211), 'gpu_link_integrity_errors_total'),
  slow(berOfLink(220), 'gpu_link_effective_ber_ratio'),
  slow(berOfLink(222), 'gpu_link_symbol_ber_ratio'),
];

/** NVML_FI_DEV_NVLINK_LINK_COUNT. */
export const LINK_COUNT_FIELD = 91;
/** NVLink 5 has 18; twice that, against a library that says anything. */
export const MAX_LINKS = 36;

/** A slot of the child as one number for the description: which line of the table, of which link (-1: none). */
export function slotCode(field: number, link: number): number {
  return field * (MAX_LINKS + 1) + link + 1;
}

export function slotOfCode(code: number): { readonly field: NvmlField | undefined; readonly link: number } {
  return { field: nvmlFields[Math.floor(code / (MAX_LINKS + 1))], link: (code % (MAX_LINKS + 1)) - 1 };
}
