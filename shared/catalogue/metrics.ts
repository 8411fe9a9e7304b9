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
/** Twice the fastest memory of 2026 (GDDR7: 14,001 MHz). AMD's driver says 65,535 MHz where it does not know. */
const HERTZ: Range = [0, 30_000_000_000];
/** A time counter since the driver was loaded: a hundred years. */
const SECONDS: Range = [0, 3.2e9];
/** Of all CPUs together: a thousand of them for thirty years. */
const CPU_SECONDS: Range = [0, 1e12];
/** From 1970 to the year 2106. */
const UNIX_SECONDS: Range = [0, 2 ** 32];
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
  gauge('gpu_voltage_volts', 'V', 3, VOLTS, 'Voltage by rail: gfx, soc, memory'),

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
  gauge('gpu_retired_pages', '1', 0, COUNT, 'Retired pages by cause: sbe, dbe (before Ampere), bad_page (AMD)'),
  gauge('gpu_retired_pages_pending', '1', 0, COUNT, 'Pages that the next reset retires; on AMD also those that the driver could not reserve'),
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
  gauge('ib_port_physical_state', '', 0, ENUM, 'InfiniBand port physical state: 2 polling, 3 disabled, 5 link up'),
  counter('ib_port_bytes_total', 'By', 0, BYTES, 'Bytes of an InfiniBand port by direction'),
  counter('ib_port_packets_total', '1', 0, BYTES, 'Packets of an InfiniBand port by direction'),
  counter('ib_port_transmit_wait_ticks_total', '1', 0, BYTES, 'Ticks of the port in which data waited for credit to be sent'),
  counter('ib_hw_counter_total', '1', 0, BYTES, 'What a driver counts for a port beside the InfiniBand counters, by counter: retransmissions, congestion, errors'),
  info('ib_port_info', 'What an InfiniBand or RoCE port is: link layer, model, firmware, interface, PCI address and NUMA node as labels'),
  info('nic_info', 'Where a network interface is: PCI address and NUMA node as labels'),
  info('nic_gpu_locality_info', 'A network card and a GPU that are near on PCIe, by path: pix one switch, pxb several, phb the same host bridge'),
  gauge('nic_pcie_link_generation', '', 0, ENUM, 'PCIe generation in use by a network card'),
  gauge('nic_pcie_link_generation_max', '', 0, ENUM, 'Highest PCIe generation of network card and slot'),
  gauge('nic_pcie_link_width', '', 0, ENUM, 'PCIe lanes in use by a network card'),
  gauge('nic_pcie_link_width_max', '', 0, ENUM, 'Most PCIe lanes of network card and slot'),
  counter('pcie_aer_errors_total', '1', 0, COUNT, 'PCIe errors that a device reported, by kind and severity'),
  counter('kernel_log_lines_total', '1', 0, COUNT, 'Kernel lines read since the agent was started'),
  counter('kernel_log_lost_lines_total', '1', 0, COUNT, 'Kernel lines that were overwritten, or too many to hold, before they could be read'),
  counter('kernel_log_events_total', '1', 0, COUNT, 'Kernel lines that told of an event, by type'),
  gauge('chassis_fan_ratio', '1', 2, RATIO, 'Speed of a fan of the chassis as a share of its maximum, by fan; 0 stands still'),

  // Training jobs: as a job says of itself
  gauge('training_loss', '', 4, [-1e9, 1e9], 'Loss of the last step'),
  gauge('training_steps', '1', 0, COUNT, 'Optimizer steps done; falls to that of the last checkpoint when the job goes on from it'),
  counter('training_tokens_total', '1', 0, COUNT, 'Tokens taken, those of repeated steps included'),
  gauge('training_tokens_per_second', '1/s', 0, [0, 1e12], 'Tokens taken in a second'),
  gauge('training_queue_depth', '1', 0, COUNT, 'Batches that the loader has ready'),
  counter('training_checkpoints_total', '1', 0, COUNT, 'Checkpoints written'),
  gauge('training_checkpoint_seconds', 's', 3, SECONDS, 'How long the last checkpoint took'),
  gauge('training_checkpoint_age_seconds', 's', 3, SECONDS, 'Time since the last checkpoint, or since the job began'),
  counter('training_restarts_total', '1', 0, COUNT, 'Times that the job went on from a checkpoint because a GPU was lost'),

  // Host, under node_exporter's names where it has them
  counter('node_cpu_seconds_total', 's', 2, CPU_SECONDS, 'CPU time by mode: of all CPUs together, or by cpu'),
  gauge('node_cpus_online', '1', 0, COUNT, 'CPUs that are online'),
  counter('node_context_switches_total', '1', 0, COUNT, 'Context switches'),
  counter('node_forks_total', '1', 0, COUNT, 'Processes and threads that were made'),
  gauge('node_procs_running', '1', 0, COUNT, 'Tasks that run or could'),
  gauge('node_procs_blocked', '1', 0, COUNT, 'Tasks that wait for I/O and cannot be killed'),
  gauge('node_boot_time_seconds', 's', 0, UNIX_SECONDS, 'When the host was booted, Unix time'),
  gauge('node_load1', '1', 2, COUNT, 'Load average of a minute'),
  gauge('node_load5', '1', 2, COUNT, 'Load average of five minutes'),
  gauge('node_load15', '1', 2, COUNT, 'Load average of a quarter of an hour'),
  gauge('node_memory_MemTotal_bytes', 'By', 0, COUNT, 'Memory that the kernel manages'),
  gauge('node_memory_MemFree_bytes', 'By', 0, COUNT, 'Memory that nothing uses, not even as a cache'),
  gauge('node_memory_MemAvailable_bytes', 'By', 0, COUNT, 'Memory that programs can have without swapping'),
  gauge('node_memory_Buffers_bytes', 'By', 0, COUNT, 'Cache of block devices'),
  gauge('node_memory_Cached_bytes', 'By', 0, COUNT, 'Cache of files, shared memory included'),
  gauge('node_memory_SwapTotal_bytes', 'By', 0, COUNT, 'Swap space'),
  gauge('node_memory_SwapFree_bytes', 'By', 0, COUNT, 'Swap space that is free'),
  gauge('node_memory_Dirty_bytes', 'By', 0, COUNT, 'Memory that waits to be written to disk'),
  gauge('node_memory_Writeback_bytes', 'By', 0, COUNT, 'Memory that is being written to disk'),
  gauge('node_memory_AnonPages_bytes', 'By', 0, COUNT, 'Memory of programs that is not of a file'),
  gauge('node_memory_Shmem_bytes', 'By', 0, COUNT, 'Shared memory and tmpfs'),
  gauge('node_memory_Slab_bytes', 'By', 0, COUNT, 'Data structures of the kernel'),
  gauge('node_memory_SReclaimable_bytes', 'By', 0, COUNT, 'Data structures of the kernel that it can give up'),
  gauge('node_memory_HardwareCorrupted_bytes', 'By', 0, COUNT, 'Memory that the kernel took out of use because of errors'),
  gauge('node_memory_HugePages_Total', '1', 0, COUNT, 'Huge pages of the pool'),
  gauge('node_memory_HugePages_Free', '1', 0, COUNT, 'Huge pages of the pool that are free'),
  counter('node_vmstat_pswpin', '1', 0, COUNT, 'Pages swapped in'),
  counter('node_vmstat_pswpout', '1', 0, COUNT, 'Pages swapped out'),
  counter('node_vmstat_pgmajfault', '1', 0, COUNT, 'Page faults that had to read from disk'),
  counter('node_vmstat_oom_kill', '1', 0, COUNT, 'Processes killed for want of memory'),
  counter('node_pressure_cpu_waiting_seconds_total', 's', 6, SECONDS, 'Time in which at least one task waited for a CPU'),
  counter('node_pressure_cpu_stalled_seconds_total', 's', 6, SECONDS, 'Time in which all tasks waited for a CPU'),
  counter('node_pressure_memory_waiting_seconds_total', 's', 6, SECONDS, 'Time in which at least one task waited for memory'),
  counter('node_pressure_memory_stalled_seconds_total', 's', 6, SECONDS, 'Time in which all tasks waited for memory'),
  counter('node_pressure_io_waiting_seconds_total', 's', 6, SECONDS, 'Time in which at least one task waited for I/O'),
  counter('node_pressure_io_stalled_seconds_total', 's', 6, SECONDS, 'Time in which all tasks waited for I/O'),
  counter('node_disk_reads_completed_total', '1', 0, COUNT, 'Reads from a disk (device)'),
  counter('node_disk_read_bytes_total', 'By', 0, BYTES, 'Bytes read from a disk'),
  counter('node_disk_read_time_seconds_total', 's', 3, CPU_SECONDS, 'Time that reads took, all added'),
  counter('node_disk_writes_completed_total', '1', 0, COUNT, 'Writes to a disk'),
  counter('node_disk_written_bytes_total', 'By', 0, BYTES, 'Bytes written to a disk'),
  counter('node_disk_write_time_seconds_total', 's', 3, CPU_SECONDS, 'Time that writes took, all added'),
  gauge('node_disk_io_now', '1', 0, COUNT, 'Reads and writes that a disk works on'),
  counter('node_disk_io_time_seconds_total', 's', 3, SECONDS, 'Time in which a disk worked on something'),
  counter('node_disk_io_errors_total', '1', 0, COUNT, 'Commands that a SCSI or SATA disk failed'),
  counter('node_ext4_errors_total', '1', 0, COUNT, 'Errors that the kernel found in an ext4 filesystem (device)'),
  gauge('node_md_degraded', '1', 0, COUNT, 'Disks that an array lacks'),
  gauge('node_filesystem_size_bytes', 'By', 0, BYTES, 'Size of a local filesystem (device, fstype, mountpoint)'),
  gauge('node_filesystem_free_bytes', 'By', 0, BYTES, 'Free space, that which is kept for root included'),
  gauge('node_filesystem_avail_bytes', 'By', 0, BYTES, 'Free space for everyone'),
  gauge('node_filesystem_files', '1', 0, BYTES, 'Inodes of a local filesystem'),
  gauge('node_filesystem_files_free', '1', 0, BYTES, 'Free inodes'),
  gauge('node_filesystem_readonly', '', 0, FLAG, 'Whether a filesystem is mounted read-only, as the kernel does after an error'),
  gauge('node_timex_sync_status', '', 0, FLAG, 'Whether something keeps the clock right'),
  gauge('node_timex_maxerror_seconds', 's', 9, SECONDS, 'The most that the clock can be wrong'),
  gauge('node_clock_offset_seconds', 's', 9, [-3.2e9, 3.2e9], 'How far the clock is ahead of its reference; negative where it is behind'),
  gauge('node_clock_last_sync_timestamp_seconds', 's', 3, UNIX_SECONDS, 'When the clock was last compared with its reference, Unix time'),
  counter('node_edac_correctable_errors_total', '1', 0, COUNT, 'Memory errors that ECC corrected, by controller'),
  counter('node_edac_uncorrectable_errors_total', '1', 0, COUNT, 'Memory errors that ECC could not correct, by controller'),
  counter('node_edac_dimm_correctable_errors_total', '1', 0, COUNT, 'Memory errors that ECC corrected, by controller, dimm and label'),
  counter('node_edac_dimm_uncorrectable_errors_total', '1', 0, COUNT, 'Memory errors that ECC could not correct, by controller, dimm and label'),
  gauge('node_hwmon_temp_celsius', 'Cel', 3, CELSIUS, 'Temperature of a CPU package by chip, sensor and label'),
  gauge('node_thermal_zone_temp', 'Cel', 3, CELSIUS, 'Temperature by zone and type'),
  gauge('node_network_up', '', 0, FLAG, 'Whether a network interface (device) is up'),
  gauge('node_network_speed_bytes', 'By/s', -3, BYTES_PER_SECOND, 'Speed of a network interface'),
  counter('node_network_carrier_changes_total', '1', 0, COUNT, 'Times that the carrier of a network interface came or went'),
  counter('node_network_receive_bytes_total', 'By', 0, BYTES, 'Bytes received'),
  counter('node_network_receive_packets_total', '1', 0, BYTES, 'Packets received'),
  counter('node_network_receive_errs_total', '1', 0, BYTES, 'Packets received wrong'),
  counter('node_network_receive_drop_total', '1', 0, BYTES, 'Packets received that were thrown away'),
  counter('node_network_receive_frame_total', '1', 0, BYTES, 'Packets received with a wrong frame, checksum errors included'),
  counter('node_network_transmit_bytes_total', 'By', 0, BYTES, 'Bytes sent'),
  counter('node_network_transmit_packets_total', '1', 0, BYTES, 'Packets sent'),
  counter('node_network_transmit_errs_total', '1', 0, BYTES, 'Packets that could not be sent'),
  counter('node_network_transmit_drop_total', '1', 0, BYTES, 'Packets to be sent that were thrown away'),
  counter('node_network_transmit_carrier_total', '1', 0, BYTES, 'Packets not sent for want of a carrier'),

  // Slices, pods, containers and jobs, under cAdvisor's names: labels cgroup, pod_uid, container_id, slurm_job_id
  counter('container_cpu_usage_seconds_total', 's', 6, CPU_SECONDS, 'CPU time of a cgroup'),
  counter('container_cpu_cfs_throttled_seconds_total', 's', 6, CPU_SECONDS, 'Time that a cgroup was held back by its CPU limit'),
  counter('container_oom_events_total', '1', 0, COUNT, 'Processes of a cgroup killed for want of memory'),
  gauge('container_memory_usage_bytes', 'By', 0, COUNT, 'Memory of a cgroup, its file cache included'),
  gauge('container_memory_working_set_bytes', 'By', 0, COUNT, 'Memory of a cgroup without the file cache that was not touched for long'),
  gauge('container_spec_memory_limit_bytes', 'By', 0, COUNT, 'Memory limit of a cgroup; absent where it has none'),

  // This product's own
  gauge('gpufleet_health_score', '', 2, SCORE, 'Health of a GPU, 0 to 100, by dimension; `all` is the whole'),
  gauge('gpufleet_health_state', '', 0, [0, 5], 'Health state of a GPU: 1 healthy, 2 degraded, 3 critical, 4 unknown, 5 flapping'),
  gauge('gpufleet_health_severity', '', 0, [0, 2], 'Of the health state: 0 nothing to do, 1 degraded or flapping, 2 critical'),
  gauge('gpufleet_health_confidence', '1', 4, [0, 1], 'Share of the health signals of a GPU that is known'),
  gauge('gpufleet_anomaly_strength', '1', 2, COUNT, 'Strength of the open anomaly of a GPU, 0 without one; 1 is the threshold'),
  gauge('gpufleet_node_health_score', '', 2, SCORE, 'Health of a node by its GPUs, 0 to 100'),
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
