import { describe, expect, test } from 'vitest';
import type { FleetEvent } from '#shared/model/event.ts';
import { SOURCE } from '../block-of.ts';
import { PACK, PackRun } from './pack-run.ts';

type Attributes = Readonly<Record<string, string>>;
type Happening = readonly [type: string, attributes: Attributes, gpu?: number];

/** What raises an alert, the alert, and what ends it before its time; nothing where only time does. */
type Row = readonly [line: string, raised: Happening, ended?: Happening];

// biome-ignore format: a table, one event a line
const ROWS: readonly Row[] = [
  ['gpu-lost critical gpu=5', ['gpu_lost', { source: 'nvml' }, 5], ['gpu_back', { source: 'nvml' }, 5]],
  ['gpu-xid-critical critical gpu=5 79', ['xid', { code: '79', severity: 'critical' }, 5]],
  ['gpu-xid-error warning gpu=5 109', ['xid', { code: '109', severity: 'error' }, 5]],
  ['gpu-xid-warning info gpu=5 63', ['xid', { code: '63', severity: 'warning' }, 5]],
  ['gpu-xid-warning info gpu=5 163', ['xid', { code: '163', severity: 'warning' }, 5]],
  ['gpu-recovery-asked-critical critical gpu=5', ['recovery_action', { code: '154', severity: 'critical' }, 5]],
  ['gpu-recovery-asked-error warning gpu=5', ['recovery_action', { code: '154', severity: 'error' }, 5]],
  ['gpu-recovery-asked-warning warning gpu=5', ['recovery_action', { code: '154', severity: 'warning' }, 5]],
  ['gpu-ras-critical critical gpu=5 uncorrectable', ['ras', { code: 'uncorrectable', severity: 'critical' }, 5]],
  ['gpu-ras-warning warning gpu=5 deferred', ['ras', { code: 'deferred', severity: 'warning' }, 5]],
  ['gpu-reset-failed critical gpu=5', ['gpu_reset', { code: 'failed', severity: 'critical' }, 5], ['gpu_reset', { code: 'succeeded', severity: 'info' }, 5]],
  ['nvswitch-sxid-critical critical gpu= 20034', ['sxid', { code: '20034', severity: 'critical' }]],
  ['nvswitch-sxid-error warning gpu= 11004', ['sxid', { code: '11004', severity: 'error' }]],
  ['nvswitch-sxid-warning info gpu= 20009', ['sxid', { code: '20009', severity: 'warning' }]],
  ['pcie-error-critical critical gpu= 0000:1b:00.0', ['pcie_aer', { code: 'dpc', pci: '0000:1b:00.0', severity: 'critical' }]],
  ['pcie-error warning gpu= 0000:1b:00.0', ['pcie_aer', { code: 'uncorrected_nonfatal', pci: '0000:1b:00.0', severity: 'warning' }]],
  ['collector-stuck warning gpu= nvml', ['collector_stuck', { source: 'nvml', phase: 'begin', pid: '7' }], ['collector_stuck', { source: 'nvml', phase: 'over', pid: '7' }]],
  ['host-read-stuck warning gpu= statfs /data', ['collector_stuck', { source: 'host', call: 'statfs /data', over: 'false' }], ['collector_stuck', { source: 'host', call: 'statfs /data', over: 'true' }]],
  ['collector-crashed warning gpu= nvml', ['collector_crashed', { source: 'nvml', how: 'SIGSEGV' }]],
  ['link-down warning gpu= mlx5_0', ['link_down', { kind: 'infiniband', device: 'mlx5_0', port: '1' }], ['link_up', { kind: 'infiniband', device: 'mlx5_0', port: '1' }]],
  ['link-flapping warning gpu= mlx5_0', ['link_flap', { device: 'mlx5_0', count: '3', window_s: '43200' }]],
  ['link-degraded warning gpu= mlx5_0', ['link_degraded', { device: 'mlx5_0', what: 'rate', over: 'false' }], ['link_degraded', { device: 'mlx5_0', what: 'rate', over: 'true' }]],
  ['kernel-error-critical critical gpu= panic', ['kernel_error', { code: 'panic', severity: 'critical' }]],
  ['kernel-error warning gpu= gpu_task_hung', ['kernel_error', { code: 'gpu_task_hung', severity: 'error' }]],
  ['node-crashed warning gpu=', ['crash', { severity: 'critical', cause: 'panic' }]],
  ['oom-kill warning gpu=', ['oom_kill', { severity: 'warning' }]],
  ['host-hardware-error-critical critical gpu= machine_check', ['hardware_error', { code: 'machine_check', severity: 'critical' }]],
  ['host-hardware-error warning gpu= edac', ['hardware_error', { code: 'edac', severity: 'error' }]],
  ['identity-conflict warning gpu= 10.0.0.7', ['identity_conflict', { holder: '10.0.0.5', claimant: '10.0.0.7' }]],
  ['dead-letters warning gpu= 400', ['dead_letter', { status: '400' }]],
  ['dependency-away critical gpu= store@agg-0', ['dependency', { what: 'store', state: 'away', of: 'store@agg-0' }], ['dependency', { what: 'store', state: 'back', of: 'store@agg-0' }]],
  ['notification-dead warning gpu= on-call', ['notification_dead', { receiver: 'on-call' }]],
  ['action-failed warning gpu= node-1', ['action_failed', { policy: 'drain', of: 'node-1' }]],
  ['samples-lost warning gpu= trimmed', ['samples_lost', { reason: 'trimmed', samples: '100' }]],
  ['kernel-log-gap info gpu=', ['kernel_log_gap', { count: '12' }]],
  ['diagnostic-failed critical gpu=5', ['diagnostic', { result: 'fail', test: 'memory' }, 5], ['diagnostic', { result: 'pass', test: 'memory' }, 5]],
  ['gpu-critical critical gpu=5', ['health_state', { from: 'healthy', to: 'critical' }, 5], ['health_state', { from: 'critical', to: 'healthy' }, 5]],
  ['gpu-degraded warning gpu=5', ['health_state', { from: 'healthy', to: 'degraded' }, 5], ['health_state', { from: 'degraded', to: 'healthy' }, 5]],
  ['gpu-flapping warning gpu=5', ['health_state', { from: 'degraded', to: 'flapping' }, 5], ['health_state', { from: 'flapping', to: 'healthy' }, 5]],
  ['gpu-anomaly warning gpu=5 a1', ['anomaly', { phase: 'begin', id: 'a1' }, 5], ['anomaly', { phase: 'end', id: 'a1' }, 5]],
];

/** What must raise nothing: it is good news, an application's, or a follower of another error. */
const QUIET: readonly Happening[] = [
  ['xid', { code: '13', severity: 'info' }, 5],
  ['xid', { code: '45', severity: 'critical', follows: '79' }, 5],
  ['recovery_action', { code: '154', severity: 'info', action: 'none' }, 5],
  ['ras', { code: 'correctable', severity: 'info' }, 5],
  ['gpu_reset', { code: 'succeeded', severity: 'info' }, 5],
  ['sxid', { code: '11012', severity: 'info' }],
  ['pcie_aer', { code: 'corrected', pci: '0000:1b:00.0', severity: 'info' }],
  ['kernel_error', { code: 'peermem', severity: 'info' }],
  ['kernel_error', { code: 'segfault', severity: 'warning' }],
  ['hardware_error', { code: 'edac_corrected', severity: 'info' }],
  ['diagnostic', { result: 'pass' }, 5],
  ['job_change', { job: '42' }],
  ['config_reload', {}],
  ['counter_reset', { counters: '3' }],
  ['health_state', { from: 'unknown', to: 'healthy' }, 5],
];

function eventOf(run: PackRun, [type, attributes, gpu]: Happening): FleetEvent {
  const of = gpu === undefined ? { gpu: '', gpuUuid: '' } : { gpu: String(gpu), gpuUuid: `GPU-${gpu}` };
  return { type, timestampMs: run.clock.ms, ...of, text: `${type} happened`, attributes };
}

// Lost without it: something that an agent tells once, and nobody is told.
describe('each event of the shipped rules', () => {
  test.each(ROWS.map(([line, raised, ended]) => ({ line, raised, ended })))(
    '$line',
    ({ line, raised, ended }) => {
      using run = new PackRun();
      run.event(SOURCE, eventOf(run, raised));
      run.pass(20_000);
      // An agent says it again: still one alert.
      run.event(SOURCE, eventOf(run, raised));
      expect(run.lines).toEqual([`${line} firing`]);
      expect(run.told[0]!.description).not.toContain('{{');
      run.pass(60_000);
      if (ended !== undefined) run.event(SOURCE, eventOf(run, ended));
      else run.pass(expiryOf(run.told[0]!.rule) - 60_000);
      expect(run.lines).toEqual([line]);
    },
  );

  test.each(QUIET.map((happening) => ({ happening, what: JSON.stringify(happening) })))(
    '$what raises nothing',
    ({ happening }) => {
      using run = new PackRun();
      run.event(SOURCE, eventOf(run, happening));
      expect(run.lines).toEqual([]);
    },
  );

  test('is tested', () => {
    const tested = new Set(ROWS.map(([line]) => line.split(' ')[0]));
    const missing = PACK.filter(({ kind, name }) => kind === 'event' && !tested.has(name));
    expect(missing.map(({ name }) => name)).toEqual([]);
  });
});

test('a link that is up again ends the alert of its own device alone', () => {
  using run = new PackRun();
  for (const device of ['mlx5_0', 'mlx5_1'])
    run.event(SOURCE, eventOf(run, ['link_down', { device, port: '1' }]));
  run.pass(10_000);
  run.event(SOURCE, eventOf(run, ['link_up', { device: 'mlx5_1', port: '1' }]));
  expect(run.lines).toEqual(['link-down warning gpu= mlx5_0 firing', 'link-down warning gpu= mlx5_1']);
});

function expiryOf(name: string): number {
  const rule = PACK.find((one) => one.name === name);
  return rule?.kind === 'event' ? rule.expiresMs : 0;
}
