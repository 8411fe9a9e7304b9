import type { Kind } from '#shared/model/dictionary.ts';
import type { Metric } from './metric.ts';

type Range = readonly [min: number, max: number];

/** Counts, sizes of memory and masks: what float64 tells apart. */
const COUNT: Range = [0, 2 ** 53];
/** All of 64 bits: 1.8 TB/s pass 2^53 bytes in an hour and a half, after which float64 drops the last few. */
const BYTES: Range = [0, 2 ** 63];
const FLAG: Range = [0, 1];
const RATIO: Range = [0, 1];
/** Codes of a vendor's enum: today's highest is far lower, newer drivers add some. */
const ENUM: Range = [0, 255];
/** Silicon below -40 or above 150 degrees does not answer any more: such a reading is a broken sensor. */
const CELSIUS: Range = [-40, 150];
/** A difference of two such temperatures. */
const CELSIUS_MARGIN: Range = [-150, 150];
/** Twice the largest module of 2026 (B300: 1400 W; the GB200 superchip with its CPU: 2700 W). */
const WATTS: Range = [0, 3000];
const VOLTS: Range = [0, 100];
/** Below 10 GHz: AMD's driver says 65,535 MHz where it does not know. */
const HERTZ: Range = [0, 9_999_000_000];
/** A time counter since the driver was loaded: a hundred years. */
const SECONDS: Range = [0, 3.2e9];
/** Fifty times the 1.8 TB/s of NVLink 5. */
const BYTES_PER_SECOND: Range = [0, 1e14];
/** A score of this product. */
const SCORE: Range = [0, 100];

/*
 * `decimals` is what the sources print: watts in thousandths, percentages as whole numbers (a ratio of two
 * decimals), profiling ratios with six decimals, mJ, ns, whole MHz (-6) and MiB. A value that does not fit is
 * still carried exactly, only larger (see Series.decimals).
 */
const of =
  (kind: Kind) =>
  (name: string, unit: string, decimals: number, [min, max]: Range, help: string): Metric => ({
    name,
    kind,
    unit,
    decimals,
    min,
    max,
    help,
  });
const gauge = of('gauge');
const counter = of('counter');
const info = (name: string, help: string): Metric => of('info')(name, '', 0, [1, 1], help);

/**
 * Every canonical metric, once. Names carry the base unit; labels besides gpu, uuid, model and the MIG ids are
 * named in the help. Ranges: docstrings above; a ratio is 0 to 1.
 */
// biome-ignore format: a table, one metric a line
export const metrics: readonly Metric[] = [
  // Identity and state
  info('gpu_info', 'What a GPU is: vendor, driver, serial, PCI address, host name and other facts as labels'),
  info('gpu_job_info', 'Who uses a GPU or MIG instance: namespace, pod, container and other labels of the job'),
  gauge('gpu_up', '', 0, FLAG, 'Whether the GPU is present and its data is fresh'),
  gauge('gpu_recovery_action', '', 0, ENUM, 'What the driver asks for: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset'),
  gauge('gpu_pstate', '', 0, [0, 32], 'Performance state, 0 (fastest) to 15; 32 unknown'),
  gauge('gpu_persistence_mode', '', 0, FLAG, 'Whether the driver stays loaded without clients'),
  gauge('gpu_mig_enabled', '', 0, FLAG, 'Whether the GPU is partitioned'),
  gauge('gpu_ecc_enabled', '', 0, FLAG, 'Whether ECC is on'),
  gauge('gpu_ecc_pending_enabled', '', 0, FLAG, 'Whether ECC will be on after the next reset'),

  // Temperature
  gauge('gpu_temperature_celsius', 'Cel', 0, CELSIUS, 'Temperature by sensor: core, hotspot, memory, hbm<i>'),
  gauge('gpu_temperature_margin_celsius', 'Cel', 0, CELSIUS_MARGIN, 'Distance to the temperature at which the GPU slows down; negative when it does'),
  gauge('gpu_temperature_limit_celsius', 'Cel', 0, CELSIUS, 'Limits: slowdown, shutdown, max_operating, memory_max_operating; from Hopper on, offsets to the T.Limit'),
  gauge('gpu_fan_ratio', '1', 2, RATIO, 'Fan speed as a share of its maximum'),

  // Power and energy
  gauge('gpu_power_watts', 'W', 3, WATTS, 'Power draw of the board; averaged over a second from Ampere on'),
  gauge('gpu_power_instant_watts', 'W', 3, WATTS, 'Power draw of the board at this moment'),
  gauge('gpu_module_power_watts', 'W', 3, WATTS, 'Power draw of the module: GPU, CPU and memory of a superchip'),
  counter('gpu_energy_joules_total', 'J', 3, COUNT, 'Energy used since the driver was loaded'),
  gauge('gpu_power_limit_watts', 'W', 3, WATTS, 'Power limits: requested, enforced, default, min, max'),
  gauge('gpu_voltage_volts', 'V', 3, VOLTS, 'Voltage by rail'),

  // Clocks
  gauge('gpu_clock_hertz', 'Hz', -6, HERTZ, 'Clock by domain: sm, memory, video'),
  gauge('gpu_clock_limit_hertz', 'Hz', -6, HERTZ, 'Highest clock by domain'),
  gauge('gpu_clock_event_reasons', '', 0, COUNT, 'Why the clock is not higher: bits 0x1 idle, 0x2 application clocks, 0x4 software power cap, 0x8 hardware slowdown, 0x10 sync boost, 0x20 software thermal, 0x40 hardware thermal, 0x80 power brake, 0x100 display'),
  counter('gpu_clock_event_seconds_total', 's', 9, SECONDS, 'Time that the clock was held down, by reason: sw_power_cap, hw_thermal, sw_thermal, hbm_thermal, hw_power_brake, sync_boost'),
  counter('gpu_violation_seconds_total', 's', 9, SECONDS, 'Time that the clock was held down, by kind: board_limit, low_util, reliability, app_clocks, base_clocks'),
  gauge('gpu_clock_events_recent', '1', 0, COUNT, 'Clock events within the window (window_ms), by reason'),

  // Utilisation
  gauge('gpu_utilization_ratio', '1', 2, RATIO, 'Share of time that work was running, by task: general, encoder, decoder'),
  gauge('gpu_memory_controller_utilization_ratio', '1', 2, RATIO, 'Share of time that memory was read or written; not its occupancy'),
  gauge('gpu_engine_active_ratio', '1', 6, RATIO, 'Share of time that the graphics or compute engine was active'),
  gauge('gpu_sm_active_ratio', '1', 6, RATIO, 'Share of cycles in which an SM had a warp'),
  gauge('gpu_sm_occupancy_ratio', '1', 6, RATIO, 'Resident warps as a share of the most possible'),
  gauge('gpu_tensor_active_ratio', '1', 6, RATIO, 'Share of cycles in which the tensor pipe was active'),
  gauge('gpu_dram_active_ratio', '1', 6, RATIO, 'Share of cycles in which device memory was sending or receiving'),
  gauge('gpu_pipe_active_ratio', '1', 6, RATIO, 'Share of cycles in which a pipe was active: fp64, fp32, fp16'),

  // Memory
  gauge('gpu_memory_total_bytes', 'By', 0, COUNT, 'Device memory'),
  gauge('gpu_memory_used_bytes', 'By', 0, COUNT, 'Device memory in use'),
  gauge('gpu_memory_free_bytes', 'By', 0, COUNT, 'Device memory free'),
  gauge('gpu_memory_reserved_bytes', 'By', 0, COUNT, 'Device memory kept by driver and firmware; total = used + free + reserved'),
  gauge('gpu_memory_utilization_ratio', '1', 6, RATIO, 'Used memory as a share of what is not reserved'),
  gauge('gpu_process_memory_bytes', 'By', 0, COUNT, 'Device memory of a process'),

  // Memory errors (ECC, retirement, remapping)
  counter('gpu_ecc_errors_total', '1', 0, COUNT, 'ECC errors by type (corrected, uncorrected, deferred) and scope (volatile: since driver load or reset; aggregate: for life)'),
  counter('gpu_ecc_errors_by_location_total', '1', 0, COUNT, 'ECC errors by type, scope and location (dram, sram, l1, l2, reg, tex, cbu or an AMD block)'),
  gauge('gpu_sram_ecc_threshold_exceeded', '', 0, FLAG, 'Whether uncorrected SRAM errors exceed the threshold for a replacement'),
  gauge('gpu_memory_unrepairable', '', 0, FLAG, 'Whether memory has errors that cannot be repaired'),
  gauge('gpu_retired_pages', '1', 0, COUNT, 'Retired pages by cause: sbe, dbe (before Ampere)'),
  gauge('gpu_retired_pages_pending', '1', 0, COUNT, 'Pages that the next reset retires'),
  gauge('gpu_remapped_rows', '1', 0, COUNT, 'Remapped rows by cause: correctable, uncorrectable (from Ampere on)'),
  gauge('gpu_row_remap_pending', '', 0, FLAG, 'Whether a row remapping waits for a reset'),
  gauge('gpu_row_remap_failed', '', 0, FLAG, 'Whether a row remapping failed: the board is to be replaced'),
  gauge('gpu_remap_banks', '1', 0, COUNT, 'Memory banks by spare rows that are left: max, high, partial, low, none'),
  gauge('gpu_bad_page_threshold_ratio', '1', 6, [0, 100], 'Bad pages as a share of the threshold for a replacement; may exceed 1'),

  // Errors and events
  gauge('gpu_xid_last', '', 0, [0, 65_535], 'The last Xid, never cleared: a hint; the events are the truth'),
  counter('gpu_xid_errors_total', '1', 0, COUNT, 'Xids by code (xid)'),
  gauge('gpu_xid_errors_recent', '1', 0, COUNT, 'Xids within the window (window_ms), by code (xid)'),
  counter('gpu_ras_events_total', '1', 0, COUNT, 'AMD RAS events by severity and afid'),
  gauge('gpu_p2p_nvlink_status', '', 0, COUNT, 'Bit map of the peers that can be reached over NVLink'),

  // PCIe
  counter('gpu_pcie_replay_total', '1', 0, COUNT, 'PCIe replays'),
  counter('gpu_pcie_replay_rollover_total', '1', 0, COUNT, 'PCIe replay counter rollovers'),
  counter('gpu_pcie_recovery_total', '1', 0, COUNT, 'PCIe transitions from L0 to recovery'),
  counter('gpu_pcie_nak_total', '1', 0, COUNT, 'PCIe NAKs by direction'),
  counter('gpu_pcie_correctable_errors_total', '1', 0, COUNT, 'Correctable PCIe errors'),
  gauge('gpu_pcie_link_generation', '', 0, ENUM, 'PCIe generation in use; falls when idle'),
  gauge('gpu_pcie_link_generation_max', '', 0, ENUM, 'Highest PCIe generation of GPU and slot'),
  gauge('gpu_pcie_link_width', '', 0, ENUM, 'PCIe lanes in use'),
  gauge('gpu_pcie_link_width_max', '', 0, ENUM, 'Most PCIe lanes of GPU and slot'),
  counter('gpu_io_bytes_total', 'By', 0, BYTES, 'Bytes by bus (pcie, nvlink) and direction (transmit, receive)'),
  gauge('gpu_io_bytes_per_second', 'By/s', 0, BYTES_PER_SECOND, 'Traffic by bus (pcie, nvlink) and direction (transmit, receive), headers included'),

  // NVLink, xGMI, fabric: label `link`, which is missing where a source gives only the sum of all links
  gauge('gpu_nvlink_throughput_bytes_per_second', 'By/s', -3, BYTES_PER_SECOND, 'NVLink payload of all links, both directions added'),
  counter('gpu_link_bytes_total', 'By', 0, BYTES, 'Bytes by link and direction'),
  gauge('gpu_link_state', '', 0, ENUM, 'State by link: 0 down, 1 up, 2 disabled'),
  counter('gpu_link_crc_flit_errors_total', '1', 0, COUNT, 'CRC errors of flow control, by link'),
  counter('gpu_link_crc_data_errors_total', '1', 0, COUNT, 'CRC errors of data, by link'),
  counter('gpu_link_replay_errors_total', '1', 0, COUNT, 'Replays by link'),
  counter('gpu_link_recovery_errors_total', '1', 0, COUNT, 'Recoveries by link'),
  counter('gpu_link_recovery_failed_total', '1', 0, COUNT, 'Recoveries that failed, by link'),
  counter('gpu_link_rx_errors_total', '1', 0, COUNT, 'Packets received wrong, by link and kind: errors, malformed, dropped'),
  counter('gpu_link_symbol_errors_total', '1', 0, COUNT, 'Symbol errors by link'),
  counter('gpu_link_integrity_errors_total', '1', 0, COUNT, 'Times that local errors exceeded a threshold, by link'),
  gauge('gpu_link_effective_ber_ratio', '1', 15, RATIO, 'Effective bit error ratio by link; above 1e-12 is a fault'),
  gauge('gpu_link_symbol_ber_ratio', '1', 15, RATIO, 'Symbol bit error ratio by link'),
  gauge('gpu_fabric_state', '', 0, ENUM, 'Registration at the fabric: 0 unsupported, 1 not started, 2 in progress, 3 completed'),
  gauge('gpu_fabric_health_mask', '', 0, COUNT, 'Faults of the fabric as bits: degraded bandwidth, route recovery, route unhealthy, access timeout'),
  gauge('gpu_c2c_link_up', '', 0, FLAG, 'Whether the chip-to-chip link is active'),
  gauge('nvswitch_temperature_celsius', 'Cel', 0, CELSIUS, 'Temperature of an NVSwitch'),
  counter('nvswitch_sxid_errors_total', '1', 0, COUNT, 'SXids by code (sxid) and severity'),
  gauge('imex_domain_up', '', 0, FLAG, 'Whether the IMEX domain is up'),

  // Host and network
  gauge('ib_port_state', '', 0, ENUM, 'InfiniBand port state by device and port: 4 is active'),
  gauge('ib_port_rate_bits_per_second', 'bit/s', -8, [0, 1e13], 'InfiniBand port rate'),
  counter('ib_link_downed_total', '1', 0, COUNT, 'Times that an InfiniBand link went down'),
  counter('ib_port_errors_total', '1', 0, COUNT, 'InfiniBand port errors by kind'),
  counter('pcie_aer_errors_total', '1', 0, COUNT, 'PCIe errors that a device reported, by kind and severity'),

  // This product's own
  gauge('gpu_health_score', '', 2, SCORE, 'Health of a GPU, 0 to 100, higher is better'),
  gauge('gpufleet_node_up', '', 0, FLAG, 'Whether the agent of a node is connected'),
  gauge('up', '', 0, FLAG, 'Whether the last scrape of a source succeeded'),
  gauge('scrape_duration_seconds', 's', 6, [0, 86_400], 'How long the last scrape of a source took'),
  gauge('scrape_samples_scraped', '1', 0, COUNT, 'Samples that the last scrape of a source gave'),
];

const byName = new Map(metrics.map((metric) => [metric.name, metric]));

/** The catalogue's entry, or undefined for a metric that passes through. */
export function metricNamed(name: string): Metric | undefined {
  return byName.get(name);
}
