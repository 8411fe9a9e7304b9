import { describe, expect, test } from 'vitest';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { blockOf, dictionaryOf, gpuLabels, SOURCE } from '../block-of.ts';
import { PACK, PackRun } from './pack-run.ts';

type LabelMap = Readonly<Record<string, string>>;
type Line = readonly [name: string, labels: LabelMap, value: number];

/** A series that is well, then not for some minutes, then well again. Of a counter the values are growth in ten seconds. */
interface Row {
  readonly rule: string;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly series: string;
  readonly labels?: LabelMap;
  readonly well: number;
  readonly bad: number;
  readonly minutes: number;
  readonly beside?: readonly Line[];
}

const STEP_MS = 10_000;
const CORE = { sensor: 'core' };
const MEMORY = { sensor: 'memory' };
const HOTSPOT = { sensor: 'hotspot' };
const SLOWDOWN: Line = ['gpu_temperature_limit_celsius', { limit: 'slowdown' }, 100];
const PORT = { device: 'mlx5_0', port: '1' };

// biome-ignore format: a table, one fault a line
const ROWS: readonly Row[] = [
  { rule: 'gpu-temperature', severity: 'warning', series: 'gpu_temperature_celsius', labels: CORE, well: 84, bad: 91, minutes: 1 },
  { rule: 'gpu-temperature', severity: 'critical', series: 'gpu_temperature_celsius', labels: CORE, well: 84, bad: 96, minutes: 1 },
  { rule: 'gpu-temperature-margin', severity: 'warning', series: 'gpu_temperature_margin_celsius', well: 12, bad: 5, minutes: 6 },
  { rule: 'gpu-temperature-margin', severity: 'critical', series: 'gpu_temperature_margin_celsius', well: 12, bad: 0, minutes: 2 },
  { rule: 'gpu-memory-temperature', severity: 'warning', series: 'gpu_temperature_celsius', labels: MEMORY, well: 90, bad: 96, minutes: 6 },
  { rule: 'gpu-hotspot-temperature', severity: 'warning', series: 'gpu_temperature_celsius', labels: HOTSPOT, well: 92, bad: 99, minutes: 2, beside: [SLOWDOWN] },
  { rule: 'gpu-hotspot-temperature', severity: 'critical', series: 'gpu_temperature_celsius', labels: HOTSPOT, well: 92, bad: 103, minutes: 3, beside: [SLOWDOWN] },
  { rule: 'gpu-thermal-throttle-hw', severity: 'warning', series: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_thermal' }, well: 0.4, bad: 2, minutes: 12 },
  { rule: 'gpu-thermal-throttle-hw', severity: 'critical', series: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_thermal' }, well: 0, bad: 8, minutes: 20 },
  { rule: 'gpu-thermal-throttle-sw', severity: 'warning', series: 'gpu_clock_event_seconds_total', labels: { reason: 'sw_thermal' }, well: 0, bad: 9, minutes: 36 },
  { rule: 'gpu-thermal-throttle-memory', severity: 'warning', series: 'gpu_clock_event_seconds_total', labels: { reason: 'hbm_thermal' }, well: 0, bad: 3, minutes: 12 },
  { rule: 'chassis-fan-stopped', severity: 'warning', series: 'chassis_fan_ratio', labels: { fan: '3' }, well: 0.4, bad: 0, minutes: 2 },
  { rule: 'gpu-power-over-limit', severity: 'warning', series: 'gpu_power_watts', well: 700, bad: 760, minutes: 2, beside: [['gpu_power_limit_watts', { limit: 'enforced' }, 700]] },
  { rule: 'gpu-power-brake', severity: 'warning', series: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_power_brake' }, well: 0.5, bad: 10, minutes: 3 },
  { rule: 'gpu-ecc-uncorrected', severity: 'critical', series: 'gpu_ecc_errors_total', labels: { type: 'uncorrected', scope: 'volatile' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-ecc-uncorrected', severity: 'critical', series: 'gpu_ecc_errors_total', labels: { type: 'uncorrected', scope: 'aggregate' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-ecc-deferred', severity: 'warning', series: 'gpu_ecc_errors_total', labels: { type: 'deferred', scope: 'volatile' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-ecc-corrected-flood', severity: 'warning', series: 'gpu_ecc_errors_total', labels: { type: 'corrected', scope: 'volatile' }, well: 20, bad: 300, minutes: 40 },
  { rule: 'gpu-sram-threshold', severity: 'critical', series: 'gpu_sram_ecc_threshold_exceeded', well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-memory-unrepairable', severity: 'critical', series: 'gpu_memory_unrepairable', well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-row-remap-failed', severity: 'critical', series: 'gpu_row_remap_failed', well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-row-remap-pending', severity: 'warning', series: 'gpu_row_remap_pending', well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-rows-remapped', severity: 'warning', series: 'gpu_remapped_rows', labels: { cause: 'uncorrectable' }, well: 7, bad: 8, minutes: 1 },
  { rule: 'gpu-rows-remapped', severity: 'critical', series: 'gpu_remapped_rows', labels: { cause: 'uncorrectable' }, well: 7, bad: 512, minutes: 1 },
  { rule: 'gpu-remap-banks-low', severity: 'warning', series: 'gpu_remap_banks', labels: { availability: 'low' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-remap-banks-none', severity: 'warning', series: 'gpu_remap_banks', labels: { availability: 'none' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-retired-pages-sbe', severity: 'critical', series: 'gpu_retired_pages', labels: { cause: 'sbe' }, well: 30, bad: 63, minutes: 1 },
  { rule: 'gpu-retired-pages-dbe', severity: 'warning', series: 'gpu_retired_pages', labels: { cause: 'dbe' }, well: 15, bad: 16, minutes: 1 },
  { rule: 'gpu-retired-pages-pending', severity: 'warning', series: 'gpu_retired_pages_pending', well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-bad-pages', severity: 'warning', series: 'gpu_bad_page_threshold_ratio', well: 0.7, bad: 0.8, minutes: 1 },
  { rule: 'gpu-bad-pages', severity: 'critical', series: 'gpu_bad_page_threshold_ratio', well: 0.7, bad: 1, minutes: 1 },
  { rule: 'gpu-recovery-action', severity: 'critical', series: 'gpu_recovery_action', well: 0, bad: 2, minutes: 1 },
  { rule: 'gpu-pcie-replays', severity: 'warning', series: 'gpu_pcie_replay_total', well: 5, bad: 6, minutes: 6 },
  { rule: 'gpu-pcie-recoveries', severity: 'warning', series: 'gpu_pcie_recovery_total', well: 0, bad: 2, minutes: 2 },
  { rule: 'gpu-pcie-width', severity: 'warning', series: 'gpu_pcie_link_width', well: 16, bad: 8, minutes: 2, beside: [['gpu_pcie_link_width_max', {}, 16]] },
  { rule: 'gpu-link-down', severity: 'warning', series: 'gpu_link_state', labels: { link: '4' }, well: 1, bad: 0, minutes: 1 },
  { rule: 'gpu-link-crc-flit', severity: 'critical', series: 'gpu_link_crc_flit_errors_total', labels: { link: '4' }, well: 0, bad: 2000, minutes: 7 },
  { rule: 'gpu-link-crc-data', severity: 'warning', series: 'gpu_link_crc_data_errors_total', labels: { link: '4' }, well: 0, bad: 3, minutes: 7 },
  { rule: 'gpu-link-replays', severity: 'warning', series: 'gpu_link_replay_errors_total', labels: { link: '4' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-link-recoveries', severity: 'warning', series: 'gpu_link_recovery_errors_total', labels: { link: '4' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-link-recovery-failed', severity: 'critical', series: 'gpu_link_recovery_failed_total', labels: { link: '4' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-link-ber', severity: 'warning', series: 'gpu_link_effective_ber_ratio', labels: { link: '4' }, well: 1.5e-254, bad: 2e-12, minutes: 2 },
  { rule: 'gpu-link-integrity', severity: 'warning', series: 'gpu_link_integrity_errors_total', labels: { link: '4' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'gpu-c2c-link-down', severity: 'warning', series: 'gpu_c2c_link_up', well: 1, bad: 0, minutes: 2 },
  { rule: 'imex-domain-down', severity: 'critical', series: 'imex_domain_up', well: 1, bad: 0, minutes: 2 },
  { rule: 'node-down', severity: 'critical', series: 'gpufleet_node_up', well: 1, bad: 0, minutes: 2 },
  { rule: 'node-health-low', severity: 'warning', series: 'gpufleet_node_health_score', well: 80, bad: 40, minutes: 12 },
  { rule: 'source-down', severity: 'warning', series: 'up', labels: { source: 'dcgm-exporter' }, well: 1, bad: 0, minutes: 6 },
  { rule: 'ib-symbol-errors', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'symbol_error', ...PORT }, well: 0, bad: 3, minutes: 10 },
  { rule: 'ib-integrity-errors', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'local_link_integrity_errors', ...PORT }, well: 0, bad: 1, minutes: 1 },
  { rule: 'ib-buffer-overruns', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'excessive_buffer_overrun_errors', ...PORT }, well: 0, bad: 1, minutes: 1 },
  { rule: 'ib-receive-errors', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'port_rcv_errors', ...PORT }, well: 50, bad: 200, minutes: 7 },
  { rule: 'ib-link-recoveries', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'link_error_recovery', ...PORT }, well: 0, bad: 2, minutes: 4 },
  { rule: 'ib-discards', severity: 'warning', series: 'ib_port_errors_total', labels: { kind: 'port_xmit_discards', ...PORT }, well: 0, bad: 2000, minutes: 8 },
  { rule: 'host-memory-uncorrected', severity: 'critical', series: 'node_edac_uncorrectable_errors_total', labels: { controller: '0' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'disk-full', severity: 'warning', series: 'node_filesystem_avail_bytes', labels: { device: '/dev/sda1', mountpoint: '/' }, well: 200e9, bad: 20e9, minutes: 12, beside: [['node_filesystem_size_bytes', { device: '/dev/sdb1', mountpoint: '/data' }, 1e9], ['node_filesystem_size_bytes', { device: '/dev/sda1', mountpoint: '/' }, 1e12]] },
  { rule: 'disk-inodes', severity: 'warning', series: 'node_filesystem_files_free', labels: { device: '/dev/sda1', mountpoint: '/' }, well: 5e6, bad: 1e5, minutes: 12, beside: [['node_filesystem_files', { device: '/dev/sda1', mountpoint: '/' }, 1e7]] },
  { rule: 'disk-errors', severity: 'warning', series: 'node_disk_io_errors_total', labels: { device: 'sda' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'filesystem-errors', severity: 'warning', series: 'node_ext4_errors_total', labels: { device: 'sda1' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'disk-array-degraded', severity: 'warning', series: 'node_md_degraded', labels: { device: 'md0' }, well: 0, bad: 1, minutes: 1 },
  { rule: 'memory-pressure', severity: 'warning', series: 'node_pressure_memory_stalled_seconds_total', well: 0.1, bad: 5, minutes: 15 },
  { rule: 'clock-unsynchronised', severity: 'warning', series: 'node_timex_maxerror_seconds', well: 0.5, bad: 16, minutes: 12 },
  { rule: 'clock-ahead', severity: 'warning', series: 'node_clock_offset_seconds', well: 0.001, bad: 0.7, minutes: 6 },
  { rule: 'clock-behind', severity: 'warning', series: 'node_clock_offset_seconds', well: -0.001, bad: -0.7, minutes: 6 },
];

function seriesOf(name: string, labels: LabelMap): Series {
  const { kind, unit } = metricNamed(name)!;
  const all = name.startsWith('gpu_') ? gpuLabels(2, labels) : Object.entries(labels).sort();
  return { name, labels: all as Series['labels'], kind, unit, decimals: 2, help: '' };
}

function runOf({ series: name, labels = {}, beside = [], well, bad, minutes }: Row) {
  const run = new PackRun();
  const dictionary = dictionaryOf(
    [seriesOf(name, labels), ...beside.map(([one, its]) => seriesOf(one, its))],
    STEP_MS,
  );
  const counts = metricNamed(name)!.kind === 'counter';
  let total = 1000;
  const pass = (value: number, length: number) => {
    for (let step = 0; step < (length * 60_000) / STEP_MS; step++) {
      total += value;
      run.block(
        SOURCE,
        blockOf(dictionary, run.clock.ms, [counts ? total : value, ...beside.map(([, , its]) => its)]),
      );
      run.pass(STEP_MS);
    }
  };
  pass(well, 70);
  const before = run.lines;
  pass(bad, minutes);
  const during = run.lines;
  pass(well, 75);
  run[Symbol.dispose]();
  return { before, during, after: run.lines, told: run.told };
}

// Lost without it: a limit that is off by one, a condition that fires before its time, or an alert that never ends.
describe('each limit of the shipped rules', () => {
  test.each(ROWS)('$rule is $severity at $bad', (row) => {
    const gpu = row.series.startsWith('gpu_') ? 'gpu=2' : 'gpu=';
    const { before, during, after, told } = runOf(row);
    const begins = new RegExp(`^${row.rule} ${row.severity} ${gpu}( .*)?$`);
    expect(before).toEqual([]);
    expect(during).toEqual([expect.stringMatching(begins)]);
    expect(during[0]).toMatch(/ firing$/);
    expect(after).toEqual([during[0]!.replace(/ firing$/, '')]);
    expect(told[0]).toMatchObject({ fired: 1, resolved: 1 });
    expect(told[0]!.description).not.toContain('{{');
  });

  test('is tested', () => {
    const tested = new Set(ROWS.map(({ rule }) => rule));
    const missing = PACK.filter(({ kind, name }) => kind === 'threshold' && !tested.has(name));
    expect(missing.map(({ name }) => name)).toEqual([]);
  });
});
