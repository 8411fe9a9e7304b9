import { metricNamed } from '#shared/catalogue/metrics.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Labels, Series } from '#shared/model/dictionary.ts';
import { counted, type SimulatedGpu } from './gpu.ts';

/** The labels that tell a board from any other: gpu, uuid, model, and what gpu_info carries besides. */
export interface GpuIdentity {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly facts: Readonly<Record<string, string>>;
}

/** One series of every GPU. */
interface Column {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** In the metric's base unit, not yet rounded. */
  readonly read: (gpu: SimulatedGpu) => number;
  /** Repeats its last value while the GPU's sensors are frozen. */
  readonly sensor: boolean;
  /** Reported also when the GPU is lost. */
  readonly outlives: boolean;
}

type Read = Column['read'];

const column = (name: string, labels: Column['labels'], read: Read): Column => ({
  name,
  labels,
  read,
  sensor: false,
  outlives: false,
});
const sensor = (name: string, labels: Column['labels'], read: Read): Column => ({
  ...column(name, labels, read),
  sensor: true,
});

const MEBIBYTE = 2 ** 20;
const MEGAHERTZ = 1e6;

/**
 * What a healthy data-centre board gives through DCGM and NVML, as far as a simulation can mean it. Left out, as on
 * the real boards: a fan (they are cooled by the chassis). Limits of temperature are degrees, not T.Limit offsets.
 */
// biome-ignore format: a table, one series a line
const COLUMNS: readonly Column[] = [
  column('gpu_info', {}, () => 1),
  { ...column('gpu_up', {}, (gpu) => (gpu.conditions.lost ? 0 : 1)), outlives: true },
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
  column('gpu_energy_joules_total', {}, (gpu) => gpu.joules),
  column('gpu_power_limit_watts', { limit: 'default' }, (gpu) => gpu.profile.limitWatts),
  column('gpu_power_limit_watts', { limit: 'enforced' }, (gpu) => gpu.profile.limitWatts),

  column('gpu_clock_hertz', { domain: 'memory' }, (gpu) => gpu.profile.memoryMegahertz * MEGAHERTZ),
  column('gpu_clock_hertz', { domain: 'sm' }, (gpu) => gpu.smMegahertz * MEGAHERTZ),
  column('gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, (gpu) => gpu.profile.boostMegahertz * MEGAHERTZ),
  column('gpu_clock_event_reasons', {}, (gpu) => gpu.reasons),
  column('gpu_clock_event_seconds_total', { reason: 'hw_power_brake' }, (gpu) => gpu.hwPowerBrakeSeconds),
  column('gpu_clock_event_seconds_total', { reason: 'hw_thermal' }, (gpu) => gpu.hwThermalSeconds),
  column('gpu_clock_event_seconds_total', { reason: 'sw_power_cap' }, (gpu) => gpu.swPowerCapSeconds),
  column('gpu_clock_event_seconds_total', { reason: 'sw_thermal' }, (gpu) => gpu.swThermalSeconds),

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
  column('gpu_ecc_errors_total', { scope: 'aggregate', type: 'uncorrected' }, (gpu) => counted(gpu.uncorrected)),
  column('gpu_ecc_errors_total', { scope: 'volatile', type: 'corrected' }, (gpu) => counted(gpu.corrected)),
  column('gpu_ecc_errors_total', { scope: 'volatile', type: 'uncorrected' }, (gpu) => counted(gpu.uncorrected)),
  column('gpu_retired_pages', { cause: 'dbe' }, () => 0),
  column('gpu_retired_pages', { cause: 'sbe' }, () => 0),
  column('gpu_remapped_rows', { cause: 'correctable' }, () => 0),
  column('gpu_remapped_rows', { cause: 'uncorrectable' }, (gpu) => gpu.remappedRows),
  column('gpu_row_remap_failed', {}, (gpu) => gpu.conditions.remapFailed),
  column('gpu_row_remap_pending', {}, (gpu) => gpu.conditions.remapPending),
  column('gpu_xid_last', {}, (gpu) => gpu.lastXid),

  column('gpu_pcie_link_generation', {}, (gpu) => gpu.profile.pcieGeneration),
  column('gpu_pcie_link_width', {}, () => 16),
  column('gpu_pcie_replay_total', {}, (gpu) => gpu.pcieReplays),
  column('gpu_io_bytes_per_second', { bus: 'nvlink', direction: 'receive' }, (gpu) => gpu.nvlinkReceive),
  column('gpu_io_bytes_per_second', { bus: 'nvlink', direction: 'transmit' }, (gpu) => gpu.nvlinkTransmit),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'receive' }, (gpu) => gpu.pcieReceive),
  column('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'transmit' }, (gpu) => gpu.pcieTransmit),
  column('gpu_link_bytes_total', { direction: 'receive', link: '0' }, (gpu) => gpu.linkReceived[0]!),
  column('gpu_link_bytes_total', { direction: 'transmit', link: '0' }, (gpu) => gpu.linkTransmitted[0]!),
  column('gpu_link_bytes_total', { direction: 'receive', link: '1' }, (gpu) => gpu.linkReceived[1]!),
  column('gpu_link_bytes_total', { direction: 'transmit', link: '1' }, (gpu) => gpu.linkTransmitted[1]!),
  column('gpu_link_crc_flit_errors_total', { link: '0' }, (gpu) => counted(gpu.crcErrors)),
  column('gpu_link_state', { link: '0' }, (gpu) => (gpu.conditions.linkDown ? 0 : 1)),
  column('gpu_link_state', { link: '1' }, () => 1),
];

/** A column that is ready to be read: no lookups, no decisions about the metric. */
export interface Reader {
  readonly read: Read;
  readonly sensor: boolean;
  readonly outlives: boolean;
  /** 10^|decimals| of the metric. */
  readonly power: number;
  /** The metric's values end in zeros (whole MHz): round to multiples of `power`. */
  readonly multiples: boolean;
}

/** One reader for each series of a GPU, in the order of `seriesOf`. */
export const READERS: readonly Reader[] = COLUMNS.map(({ name, read, sensor, outlives }) => {
  const { decimals } = catalogued(name);
  return { read, sensor, outlives, power: 10 ** Math.abs(decimals), multiples: decimals < 0 };
});

/**
 * As the catalogue codes it: the nearest value with the metric's decimals, so that scaled integers carry it
 * exactly. Adding 0 turns -0 into 0.
 */
export function codedValue({ read, power, multiples }: Reader, gpu: SimulatedGpu): number {
  const value = read(gpu);
  return (multiples ? Math.round(value / power) * power : Math.round(value * power) / power) + 0;
}

export function seriesOf(identity: GpuIdentity): Series[] {
  const { gpu, uuid, model, facts } = identity;
  return COLUMNS.map(({ name, labels }) => {
    const { kind, decimals, unit, help } = catalogued(name);
    const extra = kind === 'info' ? facts : labels;
    return { name, labels: sorted({ gpu, uuid, model, ...extra }), kind, decimals, unit, help };
  });
}

function sorted(labels: Readonly<Record<string, string>>): Labels {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}

function catalogued(name: string) {
  const metric = metricNamed(name);
  if (!metric) throw new FleetError('internal', `Cannot simulate ${name}: it is not in the catalogue`);
  return metric;
}
