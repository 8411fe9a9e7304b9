import { access, constants, open, readdir, readFile, rm, statfs } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { HostPaths } from '../collect/source-kind.ts';
import { type Finding, fail, none, ok, warn } from './finding.ts';
import { showBytes } from './terminal.ts';

/** PCI vendor ids, and the classes of GPUs: VGA, 3D, processing accelerator (pci.ids). */
const VENDORS: Readonly<Record<string, string>> = { '0x10de': 'NVIDIA', '0x1002': 'AMD' };
const GPU_CLASSES = ['0x0300', '0x0302', '0x0380', '0x1200'];
/** A bus has more functions than this only in a broken tree. */
const MAX_DEVICES = 4096;

/** The GPUs on the PCI bus, and whether a driver is loaded for them. */
export async function examineDriver(host: HostPaths): Promise<Finding[]> {
  const counts = await gpusOnBus(host);
  const nvidia = (await textOf(join(host.proc, 'driver/nvidia/version')))?.match(
    /Kernel Module\s+(?:for \S+\s+)?([\d.]+)/,
  )?.[1];
  const amd = (await textOf(join(host.sys, 'module/amdgpu/initstate'))) !== undefined;
  if (counts.size === 0) return [none('driver', 'no GPU of NVIDIA or AMD on the PCI bus')];
  return [...counts].map(([vendor, count]): Finding => {
    const gpus = `${count} ${vendor} ${count === 1 ? 'GPU' : 'GPUs'} on the PCI bus`;
    if (vendor === 'NVIDIA') {
      return nvidia === undefined
        ? fail(
            'driver',
            `${gpus}, and the NVIDIA driver is not loaded`,
            'install it, or `modprobe nvidia` and look at dmesg',
          )
        : ok('driver', `${gpus}, driver ${nvidia}`);
    }
    return amd
      ? ok('driver', `${gpus}, amdgpu is loaded`)
      : fail('driver', `${gpus}, and amdgpu is not loaded`, '`modprobe amdgpu` and look at dmesg');
  });
}

async function gpusOnBus({ sys }: HostPaths): Promise<Map<string, number>> {
  const folder = join(sys, 'bus/pci/devices');
  const names = (await readdir(folder).catch(() => [])).slice(0, MAX_DEVICES);
  const counts = new Map<string, number>();
  for (const name of names) {
    const vendor = VENDORS[(await textOf(join(folder, name, 'vendor'))) ?? ''];
    if (vendor === undefined) continue;
    const kind = (await textOf(join(folder, name, 'class')))?.slice(0, 6) ?? '';
    if (GPU_CLASSES.includes(kind)) counts.set(vendor, (counts.get(vendor) ?? 0) + 1);
  }
  return counts;
}

/** What of the host this user may read. */
export async function examinePermissions({ dev }: HostPaths): Promise<Finding[]> {
  const who = `user ${userInfo().username}`;
  const names = (await readdir(dev).catch(() => [])).filter(
    (name) => /^nvidia\d+$/.test(name) || name === 'kfd',
  );
  const findings: Finding[] = [];
  const denied: string[] = [];
  for (const name of names)
    if (!(await may(join(dev, name), constants.R_OK | constants.W_OK))) denied.push(name);
  if (denied.length > 0)
    findings.push(
      fail(
        'permissions',
        `${who} may not open ${denied.slice(0, 4).join(', ')}`,
        'add it to the groups video and render, or allow the devices in the unit file (DeviceAllow)',
      ),
    );
  const kmsg = join(dev, 'kmsg');
  if (!(await may(kmsg, constants.F_OK))) findings.push(none('permissions', `no ${kmsg}`));
  else if (await canOpen(kmsg)) findings.push(ok('permissions', `${who} may read ${kmsg}`));
  else
    findings.push(
      warn(
        'permissions',
        `${who} may not read ${kmsg}: Xids are not seen`,
        'give the service CAP_SYSLOG (AmbientCapabilities), as our unit file does',
      ),
    );
  return findings;
}

/** Below this share of free space the buffer competes with everything else. */
const LEAST_FREE = 0.05;
/** A tick waits for its fsync: a disk this slow cannot hold an interval of a second. */
const SLOW_FSYNC_MS = 200;
const PROBE_BYTES = 4096;

/** Whether the buffer's folder can be written, how much is free, and how long an fsync takes. */
export async function examineDisk(directory: string, clock: Clock): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const { blocks, bavail, bsize } = await statfs(directory);
    const free = `${showBytes(bavail * bsize)} of ${showBytes(blocks * bsize)} free in ${directory}`;
    findings.push(
      blocks > 0 && bavail / blocks < LEAST_FREE
        ? warn('disk', free, 'make room, or set buffer.max_bytes')
        : ok('disk', free),
    );
  } catch (error) {
    return [
      fail(
        'disk',
        `${directory}: ${describeError(error)}`,
        'create data_dir and give it to the user of the agent (StateDirectory= does)',
      ),
    ];
  }
  const file = join(directory, `.doctor-${process.pid}`);
  try {
    await using handle = await open(file, 'wx', 0o600);
    const began = clock.monotonic();
    await handle.write(Buffer.alloc(PROBE_BYTES));
    await handle.sync();
    const took = clock.monotonic() - began;
    const text = `a write and fsync of 4 KiB took ${took.toFixed(1)} ms`;
    findings.push(
      took > SLOW_FSYNC_MS
        ? warn('disk', text, 'use a faster disk for data_dir, or buffer.fsync: interval')
        : ok('disk', text),
    );
  } catch (error) {
    findings.push(
      fail(
        'disk',
        `${directory} cannot be written: ${describeError(error)}`,
        'give data_dir to the user of the agent; a read-only disk leaves samples in memory alone',
      ),
    );
  } finally {
    await rm(file, { force: true }).catch(() => {});
  }
  return findings;
}

/** Files that show who keeps the clock: systemd-timesyncd's appears at its first synchronisation. */
const CLOCK_KEEPERS: readonly (readonly [file: string, who: string])[] = [
  ['systemd/timesync/synchronized', 'systemd-timesyncd has set it'],
  ['chrony/chronyd.pid', 'chronyd is running'],
  ['chronyd.pid', 'chronyd is running'],
  ['ntpd.pid', 'ntpd is running'],
  ['ptp4l.pid', 'ptp4l is running'],
];

export async function examineClock({ run }: HostPaths): Promise<Finding> {
  for (const [file, who] of CLOCK_KEEPERS)
    if (await may(join(run, file), constants.F_OK)) return ok('clock', who);
  return warn(
    'clock',
    'nothing seems to keep this clock right',
    'run chrony or systemd-timesyncd; in a container, the host does',
  );
}

async function may(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}

/** /dev/kmsg lets itself be looked at by all, and opened by some. */
async function canOpen(path: string): Promise<boolean> {
  try {
    await using _handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return true;
  } catch {
    return false;
  }
}

async function textOf(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}
