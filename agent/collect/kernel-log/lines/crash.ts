import type { XidSeverity } from '#shared/catalogue/xid.ts';
import { details, type Finding } from '../finding.ts';

/** Libraries in which a crash concerns GPUs: collectives, CUDA, ROCm. */
const LIBRARY = 'nccl|rccl|cuda|cudart|cudnn|cublas\\w*|nvidia-[\\w-]+|nvrtc|amdhip64|hsa-runtime64|rocm\\w*';
const SEGFAULT = new RegExp(
  `^([^[]{1,64})\\[(\\d{1,10})\\]: segfault at .* in (lib(?:${LIBRARY})[\\w.+-]*\\.so[\\w.]*)`,
);
const HUNG = /^INFO: task (.{1,64}):(\d{1,10}) blocked for more than (\d+) seconds/;
const GPU_TASK = /nvidia|nv-|amd|rocm|kfd|UVM/i;

// biome-ignore format: a table, one kind of crash a line
const CRASHES: readonly (readonly [RegExp, code: string, name: string, severity: XidSeverity])[] = [
  [/^Kernel panic - not syncing/, 'panic', 'kernel panic', 'critical'],
  [/^BUG: (?:unable to handle|kernel NULL pointer)/, 'oops', 'kernel fault', 'critical'],
  [/^Oops: /, 'oops', 'kernel fault', 'critical'],
  [/^(?:watchdog: )?BUG: soft lockup/, 'soft_lockup', 'a CPU was stuck in the kernel', 'error'],
  [/^(?:NMI )?[Ww]atchdog: .*hard LOCKUP/, 'hard_lockup', 'a CPU was stuck with interrupts off', 'critical'],
  [/^rcu: INFO: \w+ (?:self-)?detected stall/, 'rcu_stall', 'a CPU was stuck in the kernel', 'error'],
];

/**
 *     pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2[7f7c7ac00000+d3d3000]
 *     INFO: task nvidia-smi:4242 blocked for more than 120 seconds.
 *     Kernel panic - not syncing: Fatal exception
 *     BUG: unable to handle kernel NULL pointer dereference at           (null)
 */
export function readCrash(text: string): Finding | undefined {
  if (text.includes('segfault at')) return segfault(text);
  if (text.startsWith('INFO: task ')) return hungTask(text);
  const found = CRASHES.find(([pattern]) => pattern.test(text));
  if (found === undefined) return undefined;
  const [, code, name, severity] = found;
  return { type: 'kernel_error', code, name, severity, action: 'drain and reboot the node; keep the log' };
}

function segfault(text: string): Finding | undefined {
  const [, process, pid, library] = SEGFAULT.exec(text) ?? [];
  if (library === undefined) return undefined;
  return {
    type: 'kernel_error',
    code: 'segfault',
    name: 'crash in a GPU library',
    severity: 'warning',
    action: 'look at the application; update the library if it repeats',
    what: library,
    details: details({ pid, process, library }),
  };
}

/** A task that waits for a GPU's driver for minutes: what a wedged driver looks like from outside. */
function hungTask(text: string): Finding | undefined {
  const [, process = '', pid, seconds] = HUNG.exec(text) ?? [];
  if (pid === undefined) return undefined;
  const ofGpu = GPU_TASK.test(process);
  return {
    type: 'kernel_error',
    code: ofGpu ? 'gpu_task_hung' : 'task_hung',
    name: ofGpu ? 'a task of the GPU driver or its tools is stuck' : 'a task is stuck',
    severity: ofGpu ? 'error' : 'warning',
    action: ofGpu ? 'drain and reboot the node' : 'none',
    what: process,
    details: details({ pid, process, seconds }),
  };
}
