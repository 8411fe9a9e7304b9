import { type Column, column, GPU_UP, MEBIBYTE, MEGAHERTZ, sensor, sinceLoad } from './column.ts';
import { counted } from './gpu.ts';

/**
 * What a healthy data-centre board gives through DCGM and NVML, as far as a simulation can mean it. Left out, as on
 * the real boards: a fan (they are cooled by the chassis). Limits of temperature are degrees, not T.Limit offsets.
 */
// biome-ignore format: a table, one series a line
export const NVIDIA_COLUMNS: readonly Column[] = [
  column('gpu_info', {}, () => 1),
  GPU_UP,
  column('gpu_pstate', {}, () => 0),
  column('gpu_recovery_action', {}, (gpu) => gpu.conditions.recoveryAction),

  sensor('gpu_temperature_celsius', { sensor: 'core' }, (gpu) => gpu.coreCelsius),
  sensor('gpu_temperature_celsius', { sensor: 'memory' }, (gpu) => gpu.memoryCelsius),
  sensor('gpu_temperature_margin_celsius', {}, (gpu) => gpu.profile.slowdownCelsius - Math.round(gpu.coreCelsius)),
  column('gpu_temperature_limit_celsius', { limit: 'max_operating' }, (gpu) => gpu.profile.maxOperatingCelsius),
  column('gpu_temperature_limit_celsius', { limit: 'shutdown' }, (gpu) => gpu.profile.shutdownCelsius),
  column('gpu_temperature_limit_celsius', { limit: 'slowdown' }, (gpu) => gpu.profile.slowdownCelsius),

  sensor('gpu_power_watts', {}, (gpu) => gpu.meanWatts),
  sensor('gpu_power_instant_watts', {}, (gpu) => gpu.instantWatts),
  sinceLoad('gpu_energy_joules_total', {}, (gpu) => gpu.joules),
  column('gpu_power_limit_watts', { limit: 'default' }, (gpu) => gpu.profile.limitWatts),
  column('gpu_power_limit_watts', { limit: 'enforced' }, (gpu) => gpu.profile.limitWatts),

  column('gpu_clock_hertz', { domain: 'memory' }, (gpu) => gpu.profile.memoryMegahertz * MEGAHERTZ),
  column('gpu_clock_hertz', { domain: 'sm' }, (gpu) => gpu.smMegahertz * MEGAHERTZ),
  column('gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, (gpu) => gpu.profile.boostMegahertz * MEGAHERTZ),
  column('gpu_clock_event_reasons', {}, (gpu) => gpu.reasons),
  sinceLoad('gpu_clock_event_seconds_total', { reason: 'hw_power_brake' }, (gpu) => gpu.hwPowerBrakeSeconds),
  sinceLoad('gpu_clock_event_seconds_total', { reason: 'hw_thermal' }, (gpu) => gpu.hwThermalSeconds),
  sinceLoad('gpu_clock_event_seconds_total', { reason: 'sw_power_cap' }, (gpu) => gpu.swPowerCapSeconds),
  sinceLoad('gpu_clock_event_seconds_total', { reason: 'sw_thermal' }, (gpu) => gpu.swThermalSeconds),

  column('gpu_utilization_ratio', { task: 'general' }, (gpu) => gpu.busy),
  column('gpu_memory_controller_utilization_ratio', {}, (gpu) => 0.8 * gpu.dram),
  column('gpu_engine_active_ratio', {}, (gpu) => 0.998 * gpu.busy),
  column('gpu_sm_active_ratio', {}, (gpu) => 0.94 * gpu.compute),
  column('gpu_sm_occupancy_ratio', {}, (gpu) => 0.38 * gpu.compute),
  column('gpu_tensor_active_ratio', {}, (gpu) => gpu.tensor),
  column('gpu_dram_active_ratio', {}, (gpu) => gpu.dram),
  column('gpu_pipe_active_ratio', { pipe: 'fp32' }, (gpu) => 0.11 * gpu.compute),

  column('gpu_memory_total_bytes', {}, (gpu) => gpu.profile.memoryMebibytes * MEBIBYTE),
  column('gpu_memory_used_bytes', {}, (gpu) => gpu.usedMebibytes * MEBIBYTE),
  column('gpu_memory_free_bytes', {}, (gpu) => (gpu.usableMebibytes - gpu.usedMebibytes) * MEBIBYTE),
  column('gpu_memory_reserved_bytes', {}, (gpu) => gpu.profile.reservedMebibytes * MEBIBYTE),
  column('gpu_memory_utilization_ratio', {}, (gpu) => gpu.usedMebibytes / gpu.usableMebibytes),

  column('gpu_ecc_errors_total', { scope: 'aggregate', type: 'corrected' }, (gpu) => gpu.correctedBefore + counted(gpu.corrected)),
  column('gpu_ecc_errors_total', { scope: 'aggregate', type: 'uncorrected' }, (gpu) => gpu.uncorrectedBefore + counted(gpu.uncorrected)),
  sinceLoad('gpu_ecc_errors_total', { scope: 'volatile', type: 'corrected' }, (gpu) => counted(gpu.corrected)),
  sinceLoad('gpu_ecc_errors_total', { scope: 'volatile', type: 'uncorrected' }, (gpu) => counted(gpu.uncorrected)),
  column('gpu_retired_pages', { cause: 'dbe' }, () => 0),
  column('gpu_retired_pages', { cause: 'sbe' }, () => 0),
  column('gpu_remapped_rows', { cause: 'correctable' }, () => 0),
  column('gpu_remapped_rows', { cause: 'uncorrectable' }, (gpu) => gpu.remappedRows),
  column('gpu_row_remap_failed', {}, (gpu) => gpu.conditions.remapFailed),
  column('gpu_row_remap_pending', {}, (gpu) => gpu.conditions.remapPending),
  column('gpu_xid_last', {}, (gpu) => gpu.lastXid),

  column('gpu_pcie_link_generation', {}, (gpu) => gpu.profile.pcieGeneration),
  column('gpu_pcie_link_generation_max', {}, (gpu) => gpu.profile.pcieGeneration),
  column('gpu_pcie_link_width', {}, (gpu) => gpu.pcieLanes),
  column('gpu_pcie_link_width_max', {}, () => 16),
  sinceLoad('gpu_pcie_replay_total', {}, (gpu) => gpu.pcieReplays),
  column('gpu_io_bytes_per_second', { bus: 'nvlink', direction: 'receive' }, (gpu) => gpu.nvlinkReceive),
  column('gpu_io_bytes_per_second', { bus: 'nvlink', direction: 'transmit' }, (gpu) => gpu.nvlinkTransmit),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'receive' }, (gpu) => gpu.pcieReceive),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'transmit' }, (gpu) => gpu.pcieTransmit),
  sinceLoad('gpu_link_bytes_total', { direction: 'receive', link: '0' }, (gpu) => gpu.linkReceived[0]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'transmit', link: '0' }, (gpu) => gpu.linkTransmitted[0]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'receive', link: '1' }, (gpu) => gpu.linkReceived[1]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'transmit', link: '1' }, (gpu) => gpu.linkTransmitted[1]!),
  sinceLoad('gpu_link_crc_flit_errors_total', { link: '0' }, (gpu) => counted(gpu.crcErrors)),
  sinceLoad('gpu_link_recovery_errors_total', { link: '0' }, (gpu) => gpu.linkRecoveries),
  column('gpu_link_state', { link: '0' }, (gpu) => (gpu.conditions.linkDown ? 0 : 1)),
  column('gpu_link_state', { link: '1' }, () => 1),
];
