import type { Metric } from './metric.ts';
import { metricNamed } from './metrics.ts';

/** Where AMD's driver and tools say the same thing under names of their own. */
export type AmdSource = 'sysfs' | 'amdSmi' | 'rocmSmi' | 'exporter';

/** One name of a value in one source, and the unit of a bare number there. */
export interface AmdKey {
  readonly key: string;
  /** A unit of amd-unit.ts; empty for counts. */
  readonly unit: string;
}

/** A canonical series of a GPU, and what each source calls it: the first key that gives a value is taken. */
export interface AmdField {
  readonly metric: Metric;
  /** Besides gpu, uuid and model. */
  readonly labels: Readonly<Record<string, string>>;
  readonly keys: Readonly<Record<AmdSource, readonly AmdKey[]>>;
  /** One of many instances (RAS block, link, HBM stack): a series only where the source shows it. */
  readonly instance: boolean;
  /** 0 is no reading: the second die of an MI250X says 0 W and 0 J for what the first one measures. */
  readonly zeroIsBlank: boolean;
}

/** As it stands in the table: the key, and after the last space the unit where it has one (`_` for counts). */
type Keys = Partial<Record<AmdSource, readonly string[]>>;

/** xGMI links of an OAM: NUM_XGMI_LINKS in kgd_pp_interface.h. */
const XGMI_LINKS = 8;
/** HBM stacks with a temperature: NUM_HBM_INSTANCES there; the exporter numbers up to eight. */
const HBM_STACKS = 8;

/** RAS blocks as amdgpu_ras.c (ras_block_string) and `amd-smi metric --ecc-blocks` name them. */
const RAS_BLOCKS = [
  ...[
    'umc',
    'sdma',
    'gfx',
    'mmhub',
    'athub',
    'pcie_bif',
    'hdp',
    'xgmi_wafl',
    'df',
    'smn',
    'sem',
    'mp0',
    'mp1',
  ],
  ...['fuse', 'mca', 'vcn', 'jpeg', 'ih', 'mpio', 'mmsch'],
];

/** Their counts: ours, sysfs, the tools, the exporter. */
const RAS_COUNTS = [
  ['corrected', 'ce', 'correctable', 'correct'],
  ['uncorrected', 'ue', 'uncorrectable', 'uncorrect'],
  ['deferred', 'de', 'deferred', 'deferred'],
] as const;

/**
 * AMD's throttlers by our reasons: package power, socket temperature, voltage regulators, HBM, PROCHOT. A residency
 * counts firmware cycles, of which the accumulation counter is the sum: see ThrottleTime.
 */
const THROTTLERS = [
  ['sw_power_cap', 'ppt', 'ppt', 'ppt'],
  ['hw_thermal', 'socket_thm', 'socket_thermal', 'socket_thermal'],
  ['sw_thermal', 'vr_thm', 'vr_thermal', 'vr_thermal'],
  ['hbm_thermal', 'hbm_thm', 'hbm_thermal', 'hbm_thermal'],
  ['hw_power_brake', 'prochot', 'prochot', 'processor_hot'],
] as const;

/** The accumulation counter of each source: what a residency is a share of. */
export const AMD_CYCLES: Readonly<Record<AmdSource, string>> = {
  sysfs: 'gpu_metrics:accumulation_counter',
  amdSmi: 'throttle.accumulation_counter',
  rocmSmi: '',
  exporter: 'gpu_violation_current_accumulated_counter',
};

/** A residency in firmware cycles, to become seconds. */
export const CYCLES = 'cycles';

/**
 * No GPU that answers draws nothing. Source: aldebaran_ppt.c in the kernel, where a die that is not the primary one
 * reports 0 for socket power and energy.
 */
const ZERO_IS_BLANK = new Set(['gpu_power_watts', 'gpu_power_instant_watts', 'gpu_energy_joules_total']);

function field(name: string, labels: AmdField['labels'], keys: Keys, instance = false): AmdField {
  const metric = metricNamed(name);
  if (!metric) throw new TypeError(`${name} is not in the catalogue`);
  const of = (source: AmdSource): readonly AmdKey[] => (keys[source] ?? []).map(parseKey);
  return {
    metric,
    labels,
    keys: { sysfs: of('sysfs'), amdSmi: of('amdSmi'), rocmSmi: of('rocmSmi'), exporter: of('exporter') },
    instance,
    zeroIsBlank: ZERO_IS_BLANK.has(name),
  };
}

function parseKey(text: string): AmdKey {
  const space = text.lastIndexOf(' ');
  const unit = text.slice(space + 1);
  return { key: text.slice(0, space), unit: unit === '_' ? '' : unit };
}

const each = <T>(list: readonly T[], make: (one: T, index: number) => readonly AmdField[]): AmdField[] =>
  list.flatMap(make);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/*
 * Keys of sysfs, below /sys/class/drm/card<n>/device: a file; `hwmon/temp(<label>)_<item>` where the file's number
 * is the label's; `<pp_dpm file>*` the level in use, `^` the highest; `ras/<file>:<count>`;
 * `gpu_metrics:<field>[<i>]` of the binary table. gpu_metrics stands first where the firmware gives both: one read
 * for a dozen values. Keys of amd-smi: a path in `metric`, or in `static` after `static:`. Keys of rocm-smi: as
 * printed, in lower case, without the colon that some end with. Keys of the exporter: names of its metrics, with
 * one label where that tells them apart. Sources: the kernel's amdgpu documentation and kgd_pp_interface.h, amdsmi's
 * CHANGELOG, and the exporter's list of metrics.
 */
// biome-ignore format: a table, one field a line
const table: readonly AmdField[] = [
  // Temperature
  field('gpu_temperature_celsius', { sensor: 'core' }, { sysfs: ['gpu_metrics:temperature_edge C', 'hwmon/temp(edge)_input mC'], amdSmi: ['temperature.edge C'], rocmSmi: ['temperature (sensor edge) (c) C'], exporter: ['gpu_edge_temperature C'] }),
  field('gpu_temperature_celsius', { sensor: 'hotspot' }, { sysfs: ['gpu_metrics:temperature_hotspot C', 'hwmon/temp(junction)_input mC'], amdSmi: ['temperature.hotspot C', 'temperature.junction C'], rocmSmi: ['temperature (sensor junction) (c) C'], exporter: ['gpu_junction_temperature C'] }),
  field('gpu_temperature_celsius', { sensor: 'memory' }, { sysfs: ['gpu_metrics:temperature_mem C', 'hwmon/temp(mem)_input mC'], amdSmi: ['temperature.mem C', 'temperature.vram C'], rocmSmi: ['temperature (sensor memory) (c) C'], exporter: ['gpu_memory_temperature C'] }),
  ...each(upTo(HBM_STACKS), (i) => [field('gpu_temperature_celsius', { sensor: `hbm${i}` }, { sysfs: [`gpu_metrics:temperature_hbm[${i}] C`], rocmSmi: [`temperature (sensor hbm ${i}) (c) C`], exporter: [`gpu_hbm_temperature{hbm_index="${i}"} C`] }, true)]),
  field('gpu_temperature_limit_celsius', { limit: 'slowdown' }, { sysfs: ['hwmon/temp(junction)_crit mC'], amdSmi: ['static:limit.slowdown_hotspot_temperature C'] }),
  field('gpu_temperature_limit_celsius', { limit: 'shutdown' }, { sysfs: ['hwmon/temp(junction)_emergency mC'], amdSmi: ['static:limit.shutdown_hotspot_temperature C'] }),
  field('gpu_temperature_limit_celsius', { limit: 'memory_max_operating' }, { sysfs: ['hwmon/temp(mem)_crit mC'], amdSmi: ['static:limit.slowdown_vram_temperature C'] }),
  field('gpu_fan_ratio', {}, { sysfs: ['hwmon/pwm1 /255'], amdSmi: ['fan.usage %'], rocmSmi: ['fan speed (%) %'] }),

  // Power and energy
  field('gpu_power_watts', {}, { sysfs: ['gpu_metrics:socket_power W', 'hwmon/power1_average uW', 'hwmon/power1_input uW'], amdSmi: ['power.socket_power W', 'power.current_socket_power W', 'power.average_socket_power W'], rocmSmi: ['average graphics package power (w) W', 'current socket graphics package power (w) W'], exporter: ['gpu_package_power W', 'gpu_average_package_power W', 'gpu_power_usage W'] }),
  field('gpu_power_instant_watts', {}, { sysfs: ['hwmon/power1_input uW'] }),
  field('gpu_energy_joules_total', {}, { sysfs: ['gpu_metrics:energy_accumulator J/65536'], amdSmi: ['energy.total_energy_consumption J'], rocmSmi: ['accumulated energy (uj) uJ'], exporter: ['gpu_energy_consumed uJ'] }),
  field('gpu_power_limit_watts', { limit: 'enforced' }, { sysfs: ['hwmon/power1_cap uW'], amdSmi: ['static:limit.socket_power W', 'static:limit.ppt0.socket_power_limit W'], rocmSmi: ['max graphics package power (w) W'] }),
  field('gpu_power_limit_watts', { limit: 'default' }, { sysfs: ['hwmon/power1_cap_default uW'] }),
  field('gpu_power_limit_watts', { limit: 'min' }, { sysfs: ['hwmon/power1_cap_min uW'], amdSmi: ['static:limit.min_power W', 'static:limit.ppt0.min_power_limit W'] }),
  field('gpu_power_limit_watts', { limit: 'max' }, { sysfs: ['hwmon/power1_cap_max uW'], amdSmi: ['static:limit.max_power W', 'static:limit.ppt0.max_power_limit W'] }),
  field('gpu_voltage_volts', { rail: 'gfx' }, { sysfs: ['gpu_metrics:voltage_gfx mV', 'hwmon/in(vddgfx)_input mV'], amdSmi: ['power.gfx_voltage mV'], rocmSmi: ['voltage (mv) mV'], exporter: ['gpu_gfx_voltage mV'] }),
  field('gpu_voltage_volts', { rail: 'soc' }, { sysfs: ['gpu_metrics:voltage_soc mV', 'hwmon/in(vddnb)_input mV'], amdSmi: ['power.soc_voltage mV'], exporter: ['gpu_voltage mV'] }),
  field('gpu_voltage_volts', { rail: 'memory' }, { sysfs: ['gpu_metrics:voltage_mem mV'], amdSmi: ['power.mem_voltage mV'], exporter: ['gpu_memory_voltage mV'] }),

  // Clocks
  field('gpu_clock_hertz', { domain: 'sm' }, { sysfs: ['gpu_metrics:current_gfxclk[0] MHz', 'pp_dpm_sclk* MHz'], amdSmi: ['clock.gfx_0.clk MHz', 'clock.gfx.clk MHz', 'clock.gfx.cur_clk MHz'], rocmSmi: ['sclk clock speed MHz'], exporter: ['gpu_clock{clock_type="system"} MHz'] }),
  field('gpu_clock_hertz', { domain: 'memory' }, { sysfs: ['gpu_metrics:current_uclk MHz', 'pp_dpm_mclk* MHz'], amdSmi: ['clock.mem_0.clk MHz', 'clock.mem.clk MHz', 'clock.mem.cur_clk MHz'], rocmSmi: ['mclk clock speed MHz'], exporter: ['gpu_clock{clock_type="memory"} MHz'] }),
  field('gpu_clock_hertz', { domain: 'video' }, { sysfs: ['gpu_metrics:current_vclk0[0] MHz', 'pp_dpm_vclk* MHz'], amdSmi: ['clock.vclk_0.clk MHz'], rocmSmi: ['vclk clock speed MHz'], exporter: ['gpu_clock{clock_type="video"} MHz'] }),
  field('gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }, { sysfs: ['pp_dpm_sclk^ MHz'], amdSmi: ['clock.gfx_0.max_clk MHz', 'clock.gfx.max_clk MHz'], exporter: ['gpu_max_clock{clock_type="system"} MHz'] }),
  field('gpu_clock_limit_hertz', { domain: 'memory', limit: 'max' }, { sysfs: ['pp_dpm_mclk^ MHz'], amdSmi: ['clock.mem_0.max_clk MHz', 'clock.mem.max_clk MHz'], exporter: ['gpu_max_clock{clock_type="memory"} MHz'] }),
  field('gpu_clock_event_reasons', {}, { sysfs: ['gpu_metrics:clock_event_reasons _'] }),
  ...each(THROTTLERS, ([reason, sysfs, smi, exporter]) => [field('gpu_clock_event_seconds_total', { reason }, { sysfs: [`gpu_metrics:${sysfs}_residency_acc ${CYCLES}`], amdSmi: [`throttle.${smi}_accumulated ${CYCLES}`], exporter: [`gpu_violation_${exporter}_residency_accumulated ${CYCLES}`] }, true)]),

  // Utilisation
  field('gpu_utilization_ratio', { task: 'general' }, { sysfs: ['gpu_metrics:average_gfx_activity %', 'gpu_busy_percent %'], amdSmi: ['usage.gfx_activity %', 'usage.gfx_usage %'], rocmSmi: ['gpu use (%) %'], exporter: ['gpu_gfx_activity %'] }),
  field('gpu_memory_controller_utilization_ratio', {}, { sysfs: ['gpu_metrics:average_umc_activity %', 'mem_busy_percent %'], amdSmi: ['usage.umc_activity %', 'usage.mem_usage %'], rocmSmi: ['gpu memory read/write activity (%) %', 'gpu memory use (%) %'], exporter: ['gpu_umc_activity %'] }),
  field('gpu_engine_active_ratio', {}, { exporter: ['gpu_prof_gui_util_percent %'] }),
  field('gpu_tensor_active_ratio', {}, { exporter: ['gpu_prof_tensor_active_percent %'] }),
  field('gpu_sm_occupancy_ratio', {}, { exporter: ['gpu_prof_occupancy_percent %'] }),

  // Memory
  field('gpu_memory_total_bytes', {}, { sysfs: ['mem_info_vram_total B'], amdSmi: ['mem_usage.total_vram MB', 'static:vram.size MB'], rocmSmi: ['vram total memory (b) B'], exporter: ['gpu_total_vram MB'] }),
  field('gpu_memory_used_bytes', {}, { sysfs: ['mem_info_vram_used B'], amdSmi: ['mem_usage.used_vram MB'], rocmSmi: ['vram total used memory (b) B'], exporter: ['gpu_used_vram MB'] }),
  field('gpu_memory_free_bytes', {}, { amdSmi: ['mem_usage.free_vram MB'], exporter: ['gpu_free_vram MB'] }),

  // Memory errors: counted by the driver since it was loaded
  ...each(RAS_COUNTS, ([type, sysfs, smi, exporter]) => [field('gpu_ecc_errors_total', { scope: 'volatile', type }, { sysfs: [`ras/total:${sysfs} _`], amdSmi: [`ecc.total_${smi}_count _`, `ecc.total_${smi} _`], exporter: [`gpu_ecc_${exporter}_total _`] })]),
  ...each(RAS_BLOCKS, (block) => each(RAS_COUNTS, ([type, sysfs, smi, exporter]) => [field('gpu_ecc_errors_by_location_total', { scope: 'volatile', type, location: block }, { sysfs: [`ras/${block}_err_count:${sysfs} _`], amdSmi: [`ecc_blocks.${block.toUpperCase()}.${smi}_count _`], exporter: [`gpu_ecc_${exporter}_${block === 'pcie_bif' ? 'bif' : block} _`] }, true)])),
  field('gpu_retired_pages', { cause: 'bad_page' }, { sysfs: ['ras/gpu_vram_bad_pages:retired _'] }),
  field('gpu_retired_pages_pending', {}, { sysfs: ['ras/gpu_vram_bad_pages:pending _'] }),

  // PCIe
  field('gpu_pcie_replay_total', {}, { sysfs: ['gpu_metrics:pcie_replay_count_acc _', 'pcie_replay_count _'], amdSmi: ['pcie.replay_count _'], rocmSmi: ['pcie replay count _'], exporter: ['pcie_replay_count _'] }),
  field('gpu_pcie_replay_rollover_total', {}, { sysfs: ['gpu_metrics:pcie_replay_rover_count_acc _'], amdSmi: ['pcie.replay_roll_over_count _'], exporter: ['pcie_replay_rollover_count _'] }),
  field('gpu_pcie_recovery_total', {}, { sysfs: ['gpu_metrics:pcie_l0_to_recov_count_acc _'], amdSmi: ['pcie.l0_to_recovery_count _'], exporter: ['pcie_recovery_count _'] }),
  field('gpu_pcie_nak_total', { direction: 'transmit' }, { sysfs: ['gpu_metrics:pcie_nak_sent_count_acc _'], amdSmi: ['pcie.nak_sent_count _'], exporter: ['pcie_nack_sent_count _'] }),
  field('gpu_pcie_nak_total', { direction: 'receive' }, { sysfs: ['gpu_metrics:pcie_nak_rcvd_count_acc _'], amdSmi: ['pcie.nak_received_count _'], exporter: ['pcie_nac_received_count _', 'pcie_nack_received_count _'] }),
  field('gpu_pcie_link_generation', {}, { sysfs: ['gpu_metrics:pcie_link_speed 0.1GT/s', 'current_link_speed GT/s'], amdSmi: ['pcie.speed GT/s', 'pcie.current_speed GT/s'], rocmSmi: ['pcie clock level GT/s'], exporter: ['pcie_speed GT/s'] }),
  field('gpu_pcie_link_generation_max', {}, { sysfs: ['max_link_speed GT/s'], amdSmi: ['static:bus.max_pcie_speed GT/s'], exporter: ['pcie_max_speed GT/s'] }),
  field('gpu_pcie_link_width', {}, { sysfs: ['gpu_metrics:pcie_link_width lanes', 'current_link_width lanes'], amdSmi: ['pcie.width lanes', 'pcie.current_lanes lanes'], rocmSmi: ['pcie clock level lanes'] }),
  field('gpu_pcie_link_width_max', {}, { sysfs: ['max_link_width lanes'], amdSmi: ['static:bus.max_pcie_width lanes', 'static:bus.max_pcie_lanes lanes'] }),

  // xGMI
  field('gpu_link_rx_errors_total', { kind: 'errors' }, { sysfs: ['xgmi_error _'] }),
  ...each(upTo(XGMI_LINKS), (i) => [
    field('gpu_link_bytes_total', { direction: 'receive', link: `${i}` }, { sysfs: [`gpu_metrics:xgmi_read_data_acc[${i}] KB`], exporter: [`gpu_xgmi_link_rx{link_index="${i}"} KB`] }, true),
    field('gpu_link_bytes_total', { direction: 'transmit', link: `${i}` }, { sysfs: [`gpu_metrics:xgmi_write_data_acc[${i}] KB`], exporter: [`gpu_xgmi_link_tx{link_index="${i}"} KB`] }, true),
    field('gpu_link_state', { link: `${i}` }, { sysfs: [`gpu_metrics:xgmi_link_status[${i}] _`] }, true),
  ]),
];

/** The fields that a source can give, in the order of the table. */
export function amdFields(source: AmdSource): readonly AmdField[] {
  return table.filter(({ keys }) => keys[source].length > 0);
}
