import { describe, expect, test } from 'vitest';
import { MAX_DETAIL_TEXT } from '../../../../agent/collect/kernel-log/finding.ts';
import { LineReader } from '../../../../agent/collect/kernel-log/line-reader.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';

const reader = (): LineReader =>
  new LineReader(catalogueVerdicts, (pid) => (pid === 42 ? { gpu: '3', uuid: 'GPU-3' } : undefined));
const read = (...lines: string[]): unknown => {
  const one = reader();
  return lines.map((line) => one.read(line)).at(-1);
};

// Lost without it: the operator gets a code without the process, link or place that tells whose fault it is.
test.each([
  [
    "NVRM: Xid (PCI:0000:91:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    { code: '79', pci: '0000:91:00.0', severity: 'critical', details: {} },
  ],
  ['NVRM: Xid (PCI:0000:b3:00.0): 79', { code: '79', pci: '0000:b3:00.0' }],
  [
    'NVRM: Xid (0000:03:00): 14, Channel 00000001',
    { code: '14', severity: 'info', details: { channel: '00000001' } },
  ],
  [
    'NVRM: Xid (PCI:0000:38:00): 43, pid=2924364, name=pt_main_thread, Ch 00000008',
    { code: '43', details: { pid: '2924364', process: 'pt_main_thread', channel: '00000008' } },
  ],
  [
    "NVRM: Xid (PCI:0000:b5:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 1, TPC 3, SM 0): Out Of Range Address",
    { code: '13', details: { gpc: '1', tpc: '3', sm: '0' } },
  ],
  [
    'NVRM: Xid (PCI:0018:01:00): 145, pid=876767, name=ray::WorkerDict, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000 0x00100000 0x00000004)',
    {
      severity: 'warning',
      details: { pid: '876767', process: 'ray::WorkerDict', unit: 'RLW_RXPIPE', link: '13' },
    },
  ],
  [
    "NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    {
      severity: 'error',
      action: 'run the field diagnostic if it repeats',
      details: { link: '14', bits: '3.16' },
    },
  ],
  [
    'NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)',
    {
      type: 'recovery_action',
      severity: 'critical',
      action: 'drain the node and reset the GPU',
      details: { from: '0', to: '4' },
    },
  ],
  [
    'NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)',
    { action: 'reboot the node' },
  ],
  [
    'nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up',
    {
      type: 'sxid',
      code: '20034',
      severity: 'critical',
      details: { nvswitch: '1', driver_severity: 'fatal', link: '48' },
    },
  ],
  ['NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.', { type: 'gpu_lost', pci: '0000:91:00.0' }],
  [
    'NVRM: GPU 0000:19:00.0: RmInitAdapter failed! (0x62:0x55:2512)',
    { type: 'kernel_error', code: 'gpu_init_failed', pci: '0000:19:00.0' },
  ],
  ['nvidia-nvlink: Link 3 training failed: timeout', { type: 'nvlink', severity: 'warning' }],
  [
    'amdgpu 0000:c1:00.0: amdgpu: socket: 4, die: 0 1 correctable hardware errors detected in total in gfx block, no user action is needed.',
    { type: 'ras', code: 'correctable', pci: '0000:c1:00.0', details: { errors: '1', block: 'gfx' } },
  ],
  [
    'amdgpu 0000:c1:00.0: amdgpu: socket: 4, die: 0 2 new uncorrectable hardware errors detected in umc block',
    { code: 'uncorrectable', severity: 'critical', details: { errors: '2', block: 'umc' } },
  ],
  [
    'amdgpu 0000:03:00.0: {1}[Hardware Error]: ACA[01/01].STATUS=0x98000800003e0000',
    { type: 'ras', code: 'aca_deferred' },
  ],
  [
    'amdgpu 0000:03:00.0: {1}[Hardware Error]: ACA[01/01].STATUS=0xb600000000000000',
    { code: 'aca_uncorrected', severity: 'critical' },
  ],
  [
    'amdgpu 0000:03:00.0: amdgpu: GPU reset begin!',
    { type: 'gpu_reset', code: 'begin', pci: '0000:03:00.0' },
  ],
  [
    'amdgpu 0000:03:00.0: amdgpu: GPU reset(2) succeeded!',
    { type: 'gpu_reset', code: 'succeeded', severity: 'info' },
  ],
  [
    'amdgpu 0000:03:00.0: amdgpu: ring gfx_0.0.0 timeout, signaled seq=1, emitted seq=3',
    { code: 'ring_timeout', details: { ring: 'gfx_0.0.0' } },
  ],
  [
    'pcieport 0000:00:1c.5: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)',
    {
      type: 'pcie_aer',
      pci: '0000:00:1c.5',
      severity: 'info',
      counter: {
        name: 'pcie_aer_errors_total',
        labels: { device: '0000:00:1c.5', kind: 'physical_layer', severity: 'corrected' },
      },
    },
  ],
  [
    'nvidia 0000:3b:00.0: AER: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)',
    { code: 'uncorrected_nonfatal', severity: 'warning' },
  ],
  [
    'nvidia 0000:3b:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Data Link Layer, (Receiver ID)',
    { code: 'uncorrected_fatal', severity: 'critical' },
  ],
  [
    'pcieport 0000:00:01.0: pciehp: Slot(19): Link Down',
    { type: 'pcie_aer', code: 'link_down', details: { slot: '19' } },
  ],
  [
    'pcieport 0000:40:01.1: DPC: containment event, status:0x1f01 source:0x0000',
    { code: 'dpc', severity: 'critical' },
  ],
  [
    'EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x1 offset:0x0)',
    {
      type: 'hardware_error',
      code: 'memory_corrected',
      details: { controller: 'MC0', dimm: 'CPU_SrcID#0_Ha#0_Chan#1_DIMM#0' },
    },
  ],
  [
    'mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: be00000000800400',
    { type: 'hardware_error', code: 'machine_check_uncorrected', severity: 'critical' },
  ],
  [
    'pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2[7f7c7ac00000+d3d3000]',
    { type: 'kernel_error', code: 'segfault', details: { pid: '2536443', library: 'libnccl.so.2' } },
  ],
  [
    'INFO: task nvidia-smi:4242 blocked for more than 120 seconds.',
    { code: 'gpu_task_hung', details: { pid: '4242' } },
  ],
  ['Kernel panic - not syncing: Fatal exception', { code: 'panic', severity: 'critical' }],
])('%s', (line, expected) => {
  expect(read(line)).toMatchObject(expected);
});

// Lost without it: chatter of a healthy machine pages somebody.
test.each([
  'nvidia-nvswitch2: open (major=510)',
  'NVRM: loading NVIDIA UNIX x86_64 Kernel Module  590.48.01',
  'NVRM: GPU Board Serial Number: 1653723052734',
  'nvidia-nvlink: Nvlink Core is being initialized, major device number 510',
  'amdgpu 0000:03:00.0: amdgpu: ring gfx_0.0.0 uses VM inv eng 0 on hub 0',
  '[drm] amdgpu kernel modesetting enabled',
  'IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready',
  'python[1]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[0+1]',
  'nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 20034, Severity 1 Engine instance 60 Sub-engine instance 00',
  'amdgpu 0000:0c:00.0: amdgpu: [Hardware error] aca entry[00].STATUS=0x000000000000000f',
  'oom_kill_process',
])('nothing in: %s', (line) => {
  expect(read(line)).toBeUndefined();
});

// Lost without it: a line that says Xid and cannot be read vanishes without a trace.
test.each([
  'NVRM: Xid (invalid): some error',
  'NVRM: Xid (PCI:0000:b3:00.0): INVALID, pid=1',
  'NVRM: Xid (PCI:0000:05:00): 99999, unknown error',
  'NVRM: Xid (PCI:0000:05:00): 0, x',
])('malformed: %s', (line) => {
  expect(read(line)).toBe('malformed');
});

describe('processes killed for want of memory', () => {
  const context = (pid: number, path: string): string =>
    `oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0-1,oom_memcg=/a,task_memcg=${path},task=python,pid=${pid},uid=0`;
  const killed = (pid: number): string =>
    `Memory cgroup out of memory: Killed process ${pid} (python) total-vm:1kB, anon-rss:1kB, file-rss:0kB`;

  // Lost without it: nobody knows whose job died.
  test('name the Slurm job or the pod they belong to', () => {
    expect(
      read(context(7, '/system.slice/slurmstepd.scope/job_815/step_0/user/task_0'), killed(7)),
    ).toMatchObject({ severity: 'warning', details: { pid: '7', process: 'python', slurm_job: '815' } });
    const pod =
      '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0000_4000_8000_000000000001.slice/x';
    expect(read(context(7, pod), killed(7))).toMatchObject({
      details: { pod_uid: '0a1b2c3d-0000-4000-8000-000000000001' },
    });
  });

  test('are put down to the cgroup of the same process only', () => {
    expect(read(context(7, '/job_1/step_0'), killed(8))).not.toHaveProperty('details.slurm_job');
  });

  // Lost without it: the death of a GPU job looks like that of any process.
  test('are marked where they hold a GPU', () => {
    expect(read(killed(42))).toMatchObject({ code: 'gpu_job', severity: 'error' });
    expect(read(killed(43))).toMatchObject({ code: 'process', severity: 'warning' });
  });

  test('are one event where an old kernel announces the kill', () => {
    expect(read('Out of memory: Kill process 456 (python) score 50 or sacrifice child')).toMatchObject({
      details: { pid: '456' },
    });
    expect(
      read(
        'Out of memory: Kill process 456 (python) score 50 or sacrifice child',
        'Killed process 456 (python) total-vm:1kB',
      ),
    ).toBeUndefined();
  });
});

// Lost without it: a PCIe error that only the firmware saw is not put down to its device.
test('a PCIe section of the firmware names its device', () => {
  const block = [
    'Hardware error from APEI Generic Hardware Error Source: 1',
    'event severity: recoverable',
    ' Error 0, type: recoverable',
    '  section_type: PCIe error',
    '  device_id: 0000:54:01.0',
  ].map((text) => `{1}[Hardware Error]: ${text}`);
  expect(read(...block.slice(0, 2))).toMatchObject({ type: 'hardware_error', severity: 'error' });
  expect(read(...block)).toMatchObject({
    type: 'pcie_aer',
    pci: '0000:54:01.0',
    code: 'uncorrected_nonfatal',
  });
  expect(read(block[4]!)).toBeUndefined();
});

// Lost without it: one absurd line fills the buffer.
test('details are bounded', () => {
  const found = read(`pt[1]: segfault at 0 ip 0 sp 0 error 4 in libnccl${'x'.repeat(9000)}.so`);
  expect(JSON.stringify(found ?? {}).length).toBeLessThan(6 * MAX_DETAIL_TEXT);
});
