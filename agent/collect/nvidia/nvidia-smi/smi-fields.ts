import type { Metric } from '#shared/catalogue/metric.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { mask, number, pState, type SmiReader, words } from './smi-value.ts';

/** A canonical series and where nvidia-smi has it. */
export interface SmiField {
  readonly metric: Metric;
  /** Labels that the field's meaning adds, such as sensor="core". */
  readonly labels: Readonly<Record<string, string>>;
  readonly read: SmiReader;
  /** Properties of --query-gpu, the best first; the first that has a value is taken. */
  readonly csv: readonly string[];
  /** Paths below <gpu> of -q -x, the best first, over the versions 10 to 13 of its DTD. */
  readonly xml: readonly string[];
  /** Changes seldom and costs the driver: read with the long report where that is read. */
  readonly detail: boolean;
}

const PLAIN = number();
const CELSIUS = number('C');
const WATTS = number('W');
const PERCENT = number('%', { divide: 100 });
const MEBI = number('MiB', { multiply: 2 ** 20 });
const MEGAHERTZ = number('MHz', { multiply: 1e6 });
const MICROSECONDS = number('us', { divide: 1e6 });
const LANES = number('x');
const BANKS = number('bank(s)');
/** NVML measures over 20 ms and says KB; nothing says that it means KiB. */
const KILOBYTES = number('KB/s', { multiply: 1000 });
const MILLIVOLTS = number('mV', { divide: 1000 });
const SWITCH = words({ enabled: 1, disabled: 0 });
const YES_NO = words({ yes: 1, no: 0 });
/** nvmlDeviceGpuRecoveryAction_t, with the words of nvidia-smi and those of NVML's documentation. */
const RECOVERY = words({
  none: 0,
  reset: 1,
  'gpu reset': 1,
  reboot: 2,
  'node reboot': 2,
  'drain p2p': 3,
  'drain and reset': 4,
});
/** nvmlGpuFabricState_t. */
const FABRIC = words({ 'not started': 1, 'in progress': 2, completed: 3 });

type Sources = Partial<Pick<SmiField, 'csv' | 'xml' | 'detail'>>;

function field(
  name: string,
  labels: Readonly<Record<string, string>>,
  read: SmiReader,
  { csv = [], xml = [], detail = false }: Sources,
): SmiField {
  return { metric: metricNamed(name)!, labels, read, csv, xml, detail };
}

const throttle = (reason: string, csv: string, xml: string): SmiField =>
  field('gpu_clock_event_seconds_total', { reason }, MICROSECONDS, {
    csv: [`clocks_event_reasons_counters.${csv}`],
    xml: [`clocks_event_reasons_counters.clocks_event_reasons_counters_${xml}`],
  });

const powerLimit = (limit: string, csv: readonly string[], ...xml: readonly string[]): SmiField =>
  field('gpu_power_limit_watts', { limit }, WATTS, { csv, xml });

const temperatureLimit = (limit: string, name: string): SmiField =>
  field('gpu_temperature_limit_celsius', { limit }, CELSIUS, {
    xml: [`temperature.gpu_temp_${name}_threshold`, `temperature.gpu_temp_${name}_tlimit_threshold`],
  });

const SCOPES = ['volatile', 'aggregate'];
const TYPES = [
  { type: 'corrected', old: 'single_bit', fresh: 'correctable' },
  { type: 'uncorrected', old: 'double_bit', fresh: 'uncorrectable' },
];
const LOCATIONS = [
  { location: 'dram', csv: ['dram', 'device_memory'], fresh: true, old: 'device_memory' },
  { location: 'sram', csv: ['sram'], fresh: true },
  { location: 'reg', csv: ['register_file'], old: 'register_file' },
  { location: 'l1', csv: ['l1_cache'], old: 'l1_cache' },
  { location: 'l2', csv: ['l2_cache'], old: 'l2_cache' },
  { location: 'tex', csv: ['texture_memory'], old: 'texture_memory' },
  { location: 'cbu', csv: ['cbu'], old: 'cbu' },
];

function eccFields(): SmiField[] {
  return SCOPES.flatMap((scope) =>
    TYPES.flatMap(({ type, old, fresh }) => [
      field('gpu_ecc_errors_total', { scope, type }, PLAIN, {
        csv: [`ecc.errors.${type}.${scope}.total`],
        xml: [`ecc_errors.${scope}.${old}.total`],
      }),
      ...LOCATIONS.map((one) =>
        field('gpu_ecc_errors_by_location_total', { location: one.location, scope, type }, PLAIN, {
          csv: one.csv.map((name) => `ecc.errors.${type}.${scope}.${name}`),
          xml: [
            ...(one.fresh ? [`ecc_errors.${scope}.${one.location}_${fresh}`] : []),
            ...(one.old ? [`ecc_errors.${scope}.${old}.${one.old}`] : []),
          ],
          detail: true,
        }),
      ),
    ]),
  );
}

const LINK = 'pci.pci_gpu_link_info';
const REMAPPED = 'remapped_rows.remapped_row';
const HISTOGRAM = 'remapped_rows.row_remapper_histogram.row_remapper_histogram';

/*
 * Names and units: `nvidia-smi --help-query-gpu` of drivers up to 595 and the reports of DTD 10 to 13. Not here: the
 * single clock event reasons (the mask has them), c2c.mode (it says "Disabled" of boards that have no such link).
 */
// biome-ignore format: a table, one series a line
export const smiFields: readonly SmiField[] = [
  // Identity and state
  field('gpu_recovery_action', {}, RECOVERY, { csv: ['gpu_recovery_action'], xml: ['gpu_recovery_action'] }),
  field('gpu_pstate', {}, pState, { csv: ['pstate'], xml: ['performance_state'] }),
  field('gpu_persistence_mode', {}, SWITCH, { csv: ['persistence_mode'], xml: ['persistence_mode'] }),
  field('gpu_mig_enabled', {}, SWITCH, { csv: ['mig.mode.current'], xml: ['mig_mode.current_mig'] }),
  field('gpu_ecc_enabled', {}, SWITCH, { csv: ['ecc.mode.current'], xml: ['ecc_mode.current_ecc'] }),
  field('gpu_ecc_pending_enabled', {}, SWITCH, { csv: ['ecc.mode.pending'], xml: ['ecc_mode.pending_ecc'] }),

  // Temperature
  field('gpu_temperature_celsius', { sensor: 'core' }, CELSIUS, { csv: ['temperature.gpu'], xml: ['temperature.gpu_temp'] }),
  field('gpu_temperature_celsius', { sensor: 'memory' }, CELSIUS, { csv: ['temperature.memory'], xml: ['temperature.memory_temp'] }),
  field('gpu_temperature_margin_celsius', {}, CELSIUS, { csv: ['temperature.gpu.tlimit'], xml: ['temperature.gpu_temp_tlimit'] }),
  temperatureLimit('shutdown', 'max'),
  temperatureLimit('slowdown', 'slow'),
  temperatureLimit('max_operating', 'max_gpu'),
  temperatureLimit('memory_max_operating', 'max_mem'),
  field('gpu_fan_ratio', {}, PERCENT, { csv: ['fan.speed'], xml: ['fan_speed'] }),

  // Power
  field('gpu_power_watts', {}, WATTS, { csv: ['power.draw'], xml: ['gpu_power_readings.average_power_draw', 'gpu_power_readings.power_draw', 'power_readings.power_draw'] }),
  field('gpu_power_instant_watts', {}, WATTS, { csv: ['power.draw.instant'], xml: ['gpu_power_readings.instant_power_draw'] }),
  field('gpu_module_power_watts', {}, WATTS, { csv: ['module.power.draw.instant'], xml: ['module_power_readings.instant_power_draw'] }),
  powerLimit('requested', ['power.limit'], 'gpu_power_readings.requested_power_limit', 'power_readings.power_limit'),
  powerLimit('enforced', ['enforced.power.limit'], 'gpu_power_readings.current_power_limit', 'power_readings.enforced_power_limit'),
  powerLimit('default', ['power.default_limit'], 'gpu_power_readings.default_power_limit', 'power_readings.default_power_limit'),
  powerLimit('min', ['power.min_limit'], 'gpu_power_readings.min_power_limit', 'power_readings.min_power_limit'),
  powerLimit('max', ['power.max_limit'], 'gpu_power_readings.max_power_limit', 'power_readings.max_power_limit'),
  field('gpu_voltage_volts', { rail: 'graphics' }, MILLIVOLTS, { xml: ['voltage.graphics_volt'] }),

  // Clocks
  field('gpu_clock_hertz', { domain: 'sm' }, MEGAHERTZ, { csv: ['clocks.current.sm', 'clocks.sm'], xml: ['clocks.sm_clock'] }),
  field('gpu_clock_hertz', { domain: 'memory' }, MEGAHERTZ, { csv: ['clocks.current.memory', 'clocks.mem'], xml: ['clocks.mem_clock'] }),
  field('gpu_clock_hertz', { domain: 'video' }, MEGAHERTZ, { csv: ['clocks.current.video', 'clocks.video'], xml: ['clocks.video_clock'] }),
  field('gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, MEGAHERTZ, { csv: ['clocks.max.sm'], xml: ['max_clocks.sm_clock'] }),
  field('gpu_clock_limit_hertz', { domain: 'memory', limit: 'max' }, MEGAHERTZ, { csv: ['clocks.max.memory', 'clocks.max.mem'], xml: ['max_clocks.mem_clock'] }),
  field('gpu_clock_event_reasons', {}, mask, { csv: ['clocks_event_reasons.active', 'clocks_throttle_reasons.active'] }),
  throttle('sw_power_cap', 'sw_power_cap', 'sw_power_cap'),
  throttle('sync_boost', 'sync_boost', 'sync_boost'),
  throttle('sw_thermal', 'sw_thermal_slowdown', 'sw_therm_slowdown'),
  throttle('hw_thermal', 'hw_thermal_slowdown', 'hw_therm_slowdown'),
  throttle('hw_power_brake', 'hw_power_brake_slowdown', 'hw_power_brake'),

  // Utilisation
  field('gpu_utilization_ratio', { task: 'general' }, PERCENT, { csv: ['utilization.gpu'], xml: ['utilization.gpu_util'] }),
  field('gpu_utilization_ratio', { task: 'encoder' }, PERCENT, { csv: ['utilization.encoder'], xml: ['utilization.encoder_util'] }),
  field('gpu_utilization_ratio', { task: 'decoder' }, PERCENT, { csv: ['utilization.decoder'], xml: ['utilization.decoder_util'] }),
  field('gpu_memory_controller_utilization_ratio', {}, PERCENT, { csv: ['utilization.memory'], xml: ['utilization.memory_util'] }),

  // Memory
  field('gpu_memory_total_bytes', {}, MEBI, { csv: ['memory.total'], xml: ['fb_memory_usage.total'] }),
  field('gpu_memory_used_bytes', {}, MEBI, { csv: ['memory.used'], xml: ['fb_memory_usage.used'] }),
  field('gpu_memory_free_bytes', {}, MEBI, { csv: ['memory.free'], xml: ['fb_memory_usage.free'] }),
  field('gpu_memory_reserved_bytes', {}, MEBI, { csv: ['memory.reserved'], xml: ['fb_memory_usage.reserved'] }),

  // Memory errors
  ...eccFields(),
  field('gpu_sram_ecc_threshold_exceeded', {}, YES_NO, { csv: ['ecc.errors.uncorrected.aggregate.sram.thresholdExceeded'], xml: ['ecc_errors.aggregate.sram_threshold_exceeded'] }),
  field('gpu_memory_unrepairable', {}, YES_NO, { xml: ['ecc_errors.unrepairable_memory'] }),
  field('gpu_retired_pages', { cause: 'sbe' }, PLAIN, { csv: ['retired_pages.single_bit_ecc.count', 'retired_pages.sbe'], xml: ['retired_pages.multiple_single_bit_retirement.retired_count'] }),
  field('gpu_retired_pages', { cause: 'dbe' }, PLAIN, { csv: ['retired_pages.double_bit.count', 'retired_pages.dbe'], xml: ['retired_pages.double_bit_retirement.retired_count'] }),
  field('gpu_retired_pages_pending', {}, YES_NO, { csv: ['retired_pages.pending'], xml: ['retired_pages.pending_retirement', 'retired_pages.pending_blacklist'] }),
  field('gpu_remapped_rows', { cause: 'correctable' }, PLAIN, { csv: ['remapped_rows.correctable'], xml: [`${REMAPPED}_corr`] }),
  field('gpu_remapped_rows', { cause: 'uncorrectable' }, PLAIN, { csv: ['remapped_rows.uncorrectable'], xml: [`${REMAPPED}_unc`] }),
  field('gpu_row_remap_pending', {}, YES_NO, { csv: ['remapped_rows.pending'], xml: [`${REMAPPED}_pending`] }),
  field('gpu_row_remap_failed', {}, YES_NO, { csv: ['remapped_rows.failure'], xml: [`${REMAPPED}_failure`] }),
  ...['max', 'high', 'partial', 'low', 'none'].map((availability) =>
    field('gpu_remap_banks', { availability }, BANKS, { csv: [`remapped_rows.histogram.${availability}`], xml: [`${HISTOGRAM}_${availability}`], detail: true }),
  ),

  // PCIe and fabric
  field('gpu_pcie_link_generation', {}, PLAIN, { csv: ['pcie.link.gen.gpucurrent', 'pcie.link.gen.current'], xml: [`${LINK}.pcie_gen.device_current_link_gen`, `${LINK}.pcie_gen.current_link_gen`] }),
  field('gpu_pcie_link_generation_max', {}, PLAIN, { csv: ['pcie.link.gen.max'], xml: [`${LINK}.pcie_gen.max_link_gen`] }),
  field('gpu_pcie_link_width', {}, LANES, { csv: ['pcie.link.width.current'], xml: [`${LINK}.link_widths.current_link_width`] }),
  field('gpu_pcie_link_width_max', {}, LANES, { csv: ['pcie.link.width.max'], xml: [`${LINK}.link_widths.max_link_width`] }),
  field('gpu_pcie_replay_total', {}, PLAIN, { xml: ['pci.replay_counter'] }),
  field('gpu_pcie_replay_rollover_total', {}, PLAIN, { xml: ['pci.replay_rollover_counter'] }),
  field('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'transmit' }, KILOBYTES, { xml: ['pci.tx_util'] }),
  field('gpu_io_bytes_per_second', { bus: 'pcie', direction: 'receive' }, KILOBYTES, { xml: ['pci.rx_util'] }),
  field('gpu_fabric_state', {}, FABRIC, { csv: ['fabric.state'], xml: ['fabric.state'] }),
];

/** Of a MIG GPU instance: paths below <mig_device>. Compute instances of one GPU instance share its memory. */
export const migFields: readonly SmiField[] = [
  field('gpu_memory_total_bytes', {}, MEBI, { xml: ['fb_memory_usage.total'] }),
  field('gpu_memory_used_bytes', {}, MEBI, { xml: ['fb_memory_usage.used'] }),
  field('gpu_memory_free_bytes', {}, MEBI, { xml: ['fb_memory_usage.free'] }),
  field('gpu_memory_reserved_bytes', {}, MEBI, { xml: ['fb_memory_usage.reserved'] }),
  field(
    'gpu_ecc_errors_by_location_total',
    { location: 'sram', scope: 'volatile', type: 'uncorrected' },
    PLAIN,
    {
      xml: ['ecc_error_count.volatile_count.sram_uncorrectable'],
    },
  ),
];
