import { describe, expect, test } from 'vitest';
import type { FaultKind } from '../../../../agent/collect/simulated/faults.ts';
import type { GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import { simulated } from './simulated-run.ts';

type Row = readonly [fault: FaultKind, told: readonly string[]];

/*
 * Of GPU 1 of two, 15 minutes long, and 75 minutes after it. Each line is one alert that fired once and resolved; `firing`:
 * what stays for the life of the board. Nothing else fires, and nothing of GPU 0 but what befalls the node.
 */
const H100: readonly Row[] = [
  [
    'thermal_runaway',
    [
      'gpu-memory-temperature warning gpu=1',
      'gpu-temperature critical gpu=1',
      'gpu-temperature-margin critical gpu=1',
      'gpu-thermal-throttle-hw critical gpu=1',
    ],
  ],
  ['fan_failure', ['chassis-fan-stopped warning gpu= fan=1']],
  [
    'ecc_burst',
    [
      'gpu-ecc-uncorrected critical gpu=1',
      'gpu-recovery-action critical gpu=1',
      'gpu-row-remap-pending warning gpu=1',
      'gpu-rows-remapped warning gpu=1 firing',
      'gpu-xid-critical critical gpu=1 48',
    ],
  ],
  ['ecc_corrected', []],
  [
    'ecc_uncorrected',
    [
      'gpu-ecc-uncorrected critical gpu=1',
      'gpu-row-remap-pending warning gpu=1',
      'gpu-rows-remapped warning gpu=1 firing',
      'gpu-xid-warning info gpu=1 94',
    ],
  ],
  [
    'row_remap_failure',
    [
      'gpu-recovery-action critical gpu=1',
      'gpu-row-remap-failed critical gpu=1',
      'gpu-row-remap-pending warning gpu=1',
      'gpu-xid-critical critical gpu=1 64',
    ],
  ],
  ['xid', ['gpu-xid-critical critical gpu=1 119']],
  ['application_xid', []],
  ['off_the_bus', ['gpu-lost critical gpu=1', 'gpu-xid-critical critical gpu=1 79']],
  [
    'nvlink_down',
    [
      'gpu-link-crc-flit warning gpu=1 link=0',
      'gpu-link-down warning gpu=1 link=0',
      'gpu-link-recoveries warning gpu=1 link=0',
      'gpu-xid-error warning gpu=1 74',
    ],
  ],
  [
    'nvlink_flap',
    [
      'gpu-link-crc-flit warning gpu=1 link=0',
      'gpu-link-down warning gpu=1 link=0',
      'gpu-link-recoveries warning gpu=1 link=0',
      'gpu-xid-error warning gpu=1 74',
    ],
  ],
  ['pcie_downtrain', ['gpu-pcie-width warning gpu=1']],
  ['power_brake', ['gpu-power-brake warning gpu=1']],
  ['stuck_read', ['gpu-samples-stale warning gpu=1']],
  ['driver_reload', ['gpu-lost critical gpu=0', 'gpu-lost critical gpu=1']],
  // What no limit sees is the health engine's: a clock without a reason, a sensor that stands still.
  ['straggler', []],
  ['frozen_sensor', []],
  // Work, not faults.
  ['memory_full', []],
  ['job_stop', []],
  ['job_start', []],
];

const MI300X: readonly Row[] = [
  [
    'thermal_runaway',
    [
      'gpu-hotspot-temperature critical gpu=1',
      'gpu-memory-temperature critical gpu=1',
      'gpu-thermal-throttle-hw critical gpu=1',
    ],
  ],
  ['fan_failure', ['chassis-fan-stopped warning gpu= fan=1']],
  [
    'ecc_burst',
    [
      'gpu-ecc-uncorrected critical gpu=1',
      'gpu-ras-critical critical gpu=1 uncorrectable',
      'gpu-retired-pages-pending warning gpu=1',
    ],
  ],
  ['ecc_corrected', []],
  [
    'ecc_uncorrected',
    [
      'gpu-ecc-uncorrected critical gpu=1',
      'gpu-ras-critical critical gpu=1 poison_consumed',
      'gpu-retired-pages-pending warning gpu=1',
    ],
  ],
  [
    'row_remap_failure',
    [
      'gpu-bad-pages critical gpu=1',
      'gpu-ras-critical critical gpu=1 bad_pages',
      'gpu-retired-pages-pending warning gpu=1',
    ],
  ],
  ['off_the_bus', ['gpu-lost critical gpu=1', 'kernel-error-critical critical gpu=1 lost_from_bus']],
  ['nvlink_down', ['gpu-link-down warning gpu=1 link=0']],
  ['nvlink_flap', ['gpu-link-down warning gpu=1 link=0']],
  ['pcie_downtrain', ['gpu-pcie-width warning gpu=1']],
  ['power_brake', ['gpu-power-brake warning gpu=1']],
  ['stuck_read', ['gpu-samples-stale warning gpu=1']],
  ['driver_reload', ['gpu-lost critical gpu=0', 'gpu-lost critical gpu=1']],
  ['straggler', []],
  ['job_stop', []],
];

// Lost without it: a fault of a GPU that wakes nobody, wakes somebody twice, names another GPU, or never ends.
describe.each<[GpuModel, readonly Row[]]>([
  ['H100', H100],
  ['MI300X', MI300X],
])('the shipped rules on a simulated %s', (model, rows) => {
  test.each(rows)('%s', async (kind, told) => {
    using run = await simulated({ model, fault: { kind, gpu: 1 }, minutes: [5, 15, 75] });
    expect(run.lines).toEqual(told);
  });
});
