import { type Column, column, GPU_UP, MEBIBYTE, MEGAHERTZ, sensor, sinceLoad } from './column.ts';
import { counted, type SimulatedGpu } from './gpu.ts';

/** Pages that may be bad before amdgpu asks for a replacement ("Saved bad pages 128 reaches threshold value 128"). */
const BAD_PAGE_THRESHOLD = 128;
/** The links to the other boards of the node. */
const LINKS = ['0', '1', '2', '3', '4', '5', '6'];
/** RAS blocks besides the memory's own, which a simulation has no errors for. */
const QUIET_BLOCKS = ['gfx', 'mmhub', 'sdma', 'xgmi_wafl'];

/** As many as the threshold where the board has none left. */
const badPages = (gpu: SimulatedGpu): number =>
  gpu.conditions.remapFailed ? Math.max(BAD_PAGE_THRESHOLD, gpu.remappedRows) : gpu.remappedRows;
const usedMebibytes = (gpu: SimulatedGpu): number => gpu.profile.reservedMebibytes + gpu.usedMebibytes;
const ecc = (type: string, location: string, read: Column['read']): Column =>
  sinceLoad('gpu_ecc_errors_by_location_total', { location, scope: 'volatile', type }, read);

/**
 * What a healthy MI300X gives through amdgpu, amd-smi and AMD's exporter, as far as a simulation can mean it: hotspot
 * (junction) and memory temperature, no edge sensor; errors by RAS block, counted by the driver since it was loaded;
 * throttle residencies by the reasons that the catalogue has for them (PPT, socket thermal, VR thermal, HBM thermal, PROCHOT).
 */
// biome-ignore format: a table, one series a line
export const AMD_COLUMNS: readonly Column[] = [
  column('gpu_info', {}, () => 1),
  GPU_UP,

  sensor('gpu_temperature_celsius', { sensor: 'hotspot' }, (gpu) => gpu.coreCelsius),
  sensor('gpu_temperature_celsius', { sensor: 'memory' }, (gpu) => gpu.memoryCelsius),
  column('gpu_temperature_limit_celsius', { limit: 'shutdown' }, (gpu) => gpu.profile.shutdownCelsius),
  column('gpu_temperature_limit_celsius', { limit: 'slowdown' }, (gpu) => gpu.profile.slowdownCelsius),

  sensor('gpu_power_watts', {}, (gpu) => gpu.meanWatts),
  sinceLoad('gpu_energy_joules_total', {}, (gpu) => gpu.joules),
  column('gpu_power_limit_watts', { limit: 'default' }, (gpu) => gpu.profile.limitWatts),
  column('gpu_power_limit_watts', { limit: 'enforced' }, (gpu) => gpu.profile.limitWatts),
  column('gpu_power_limit_watts', { limit: 'max' }, (gpu) => gpu.profile.limitWatts),

  column('gpu_clock_hertz', { domain: 'memory' }, (gpu) => gpu.profile.memoryMegahertz * MEGAHERTZ),
  column('gpu_clock_hertz', { domain: 'sm' }, (gpu) => gpu.smMegahertz * MEGAHERTZ),
  column('gpu_clock_limit_hertz', { domain: 'memory', limit: 'max' }, (gpu) => gpu.profile.memoryMegahertz * MEGAHERTZ),
  column('gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, (gpu) => gpu.profile.boostMegahertz * MEGAHERTZ),
  column('gpu_clock_event_reasons', {}, (gpu) => gpu.reasons),
  sinceLoad('gpu_clock_event_seconds_total', { reason: 'hbm_thermal' }, () => 0),
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

  column('gpu_memory_total_bytes', {}, (gpu) => gpu.profile.memoryMebibytes * MEBIBYTE),
  column('gpu_memory_used_bytes', {}, (gpu) => usedMebibytes(gpu) * MEBIBYTE),
  column('gpu_memory_free_bytes', {}, (gpu) => (gpu.profile.memoryMebibytes - usedMebibytes(gpu)) * MEBIBYTE),
  column('gpu_memory_utilization_ratio', {}, (gpu) => usedMebibytes(gpu) / gpu.profile.memoryMebibytes),

  sinceLoad('gpu_ecc_errors_total', { scope: 'volatile', type: 'corrected' }, (gpu) => counted(gpu.corrected)),
  sinceLoad('gpu_ecc_errors_total', { scope: 'volatile', type: 'deferred' }, () => 0),
  sinceLoad('gpu_ecc_errors_total', { scope: 'volatile', type: 'uncorrected' }, (gpu) => counted(gpu.uncorrected)),
  ecc('corrected', 'umc', (gpu) => counted(gpu.corrected)),
  ecc('deferred', 'umc', () => 0),
  ecc('uncorrected', 'umc', (gpu) => counted(gpu.uncorrected)),
  ...QUIET_BLOCKS.flatMap((block) => [ecc('corrected', block, () => 0), ecc('uncorrected', block, () => 0)]),
  column('gpu_retired_pages', { cause: 'bad_page' }, badPages),
  column('gpu_retired_pages_pending', {}, (gpu) => gpu.conditions.remapPending),
  column('gpu_bad_page_threshold_ratio', {}, (gpu) => badPages(gpu) / BAD_PAGE_THRESHOLD),

  column('gpu_pcie_link_generation', {}, (gpu) => gpu.profile.pcieGeneration),
  column('gpu_pcie_link_generation_max', {}, (gpu) => gpu.profile.pcieGeneration),
  column('gpu_pcie_link_width', {}, (gpu) => gpu.pcieLanes),
  column('gpu_pcie_link_width_max', {}, () => 16),
  sinceLoad('gpu_pcie_replay_total', {}, (gpu) => gpu.pcieReplays),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'receive' }, (gpu) => gpu.pcieReceive),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'transmit' }, (gpu) => gpu.pcieTransmit),
  sinceLoad('gpu_link_bytes_total', { direction: 'receive', link: '0' }, (gpu) => gpu.linkReceived[0]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'transmit', link: '0' }, (gpu) => gpu.linkTransmitted[0]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'receive', link: '1' }, (gpu) => gpu.linkReceived[1]!),
  sinceLoad('gpu_link_bytes_total', { direction: 'transmit', link: '1' }, (gpu) => gpu.linkTransmitted[1]!),
  ...LINKS.map((link) => column('gpu_link_state', { link }, (gpu) => (link === '0' && gpu.conditions.linkDown ? 0 : 1))),
];
