import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, sharedData } from '../../../support/data.ts';
import { linesOfCapture, linesOfLog } from './capture-run.ts';

const folder = sharedData('samples');

/** Of each format what its own tests read. */
function reports(): string[] {
  const smi = (format: string) =>
    Object.keys(
      JSON.parse(readFileSync(join(ROOT, 'test/fixtures/nvidia-smi', `${format}-expected.json`), 'utf8')),
    );
  return [
    ...readdirSync(join(folder!, 'dcgm-exporter')).map((name) => `dcgm-exporter/${name}`),
    ...[...smi('csv'), ...smi('xml')].map((name) => `nvidia-smi/${name}`),
    ...readdirSync(join(folder!, 'rocm-smi')).map((name) => `rocm-smi/${name}`),
    'device-metrics-exporter/documented-examples.metrics',
    'infiniband-sysfs/sys-class-infiniband_h100.tsv',
  ];
}

/** What is truly wrong in a captured log. Those that are not named are of applications, or of nothing. */
const LOGS: Readonly<Record<string, readonly string[]>> = {
  'amd_dmesg_lines.log': [
    'gpu-ras-critical critical gpu= bad_pages',
    'gpu-ras-critical critical gpu= poison_consumed',
    'gpu-ras-warning warning gpu= aca',
    'gpu-ras-warning warning gpu= poison_created',
    'host-hardware-error warning gpu= firmware_recoverable',
    'kernel-error warning gpu= queue_timeout',
    'kernel-error-critical critical gpu= gpu_init_failed',
    'pcie-error warning gpu= 0000:54:01.0',
  ],
  'amd_dmesg_ras-poison-badpages.log': [
    'gpu-ras-critical critical gpu= bad_pages',
    'gpu-ras-critical critical gpu= poison_consumed',
    'gpu-ras-warning warning gpu= aca',
    'host-hardware-error warning gpu= firmware_recoverable',
    'pcie-error warning gpu= 0000:11:01.0',
  ],
  'kmsg_dmesg-iso_peermem-xid.log': ['gpu-xid-critical critical gpu= 48'],
  'kmsg_oom.log': ['oom-kill warning gpu='],
  'xid-sxid-lines_gpud.log': [
    'gpu-lost critical gpu=',
    'gpu-recovery-asked-error warning gpu=',
    'gpu-xid-critical critical gpu= 149',
    'gpu-xid-critical critical gpu= 64',
    'gpu-xid-critical critical gpu= 79',
    'gpu-xid-warning info gpu= 63',
    'nvswitch-sxid-error warning gpu= 12028',
  ],
  'xid-sxid-lines_nvsentinel.log': [
    'gpu-lost critical gpu=',
    'gpu-recovery-asked-error warning gpu=',
    'gpu-recovery-asked-warning warning gpu=',
    'gpu-xid-critical critical gpu= 119',
    'gpu-xid-critical critical gpu= 48',
    'gpu-xid-critical critical gpu= 79',
    'gpu-xid-error warning gpu= 46',
    'gpu-xid-error warning gpu= 74',
    'gpu-xid-warning info gpu= 32',
    'gpu-xid-warning info gpu= 69',
    'gpu-xid-warning info gpu= 8',
    'gpu-xid-warning info gpu= 94',
    'nvswitch-sxid-critical critical gpu= 24007',
    'nvswitch-sxid-warning info gpu= 20009',
    'nvswitch-sxid-warning info gpu= 28006',
  ],
};

// Lost without it: alerts on every GPU of a kind that we have never had in our hands.
describe.skipIf(folder === undefined)('captures of real machines', () => {
  // All are of GPUs that work, idle or busy.
  test.each(folder === undefined ? [] : reports())('%s raises nothing', async (name) => {
    expect(await linesOfCapture(join(folder!, name))).toEqual([]);
  });

  test('one of them with a GPU that is too hot raises that', async () => {
    const name = join(folder!, 'dcgm-exporter/8xh100_k8s-pods_a.metrics');
    const hot = (page: string) => page.replace(/^(DCGM_FI_DEV_GPU_TEMP\{gpu="3".*\}) \d+$/m, '$1 97');
    expect(await linesOfCapture(name, hot)).toEqual(['gpu-temperature critical gpu=3']);
  });

  test.each(
    folder === undefined
      ? []
      : readdirSync(join(folder, 'logs')).filter((name) => !name.startsWith('pstore')),
  )('the log %s raises what is wrong in it', (name) => {
    expect(linesOfLog(join(folder!, 'logs', name))).toEqual(LOGS[name] ?? []);
  });
});
