import { access, readdir, readFile, realpath } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { GpuIdentities } from '../../gpu-identity.ts';
import type { Detection, HostPaths, SourceKind, Surroundings } from '../../source-kind.ts';
import { createNvmlCollectors } from './collector.ts';
import type { NvmlSettings } from './settings.ts';

/** Where NVIDIA's installers, distributions, containers and WSL put it. */
const FOLDERS = [
  'usr/lib/x86_64-linux-gnu',
  'usr/lib/aarch64-linux-gnu',
  'usr/lib64',
  'usr/lib',
  'usr/lib/nvidia',
  'usr/local/nvidia/lib64',
  'run/opengl-driver/lib',
  'usr/lib/wsl/lib',
];
/** Below that, opening the driver for each read would cost more than the read. */
const KEEP_OPEN_BELOW_MS = 10_000;
const NVIDIA_VENDOR = '0x10de';
/** PCI base class 03: display controllers, which compute boards are too. */
const DISPLAY_CLASS = '0x03';
const MAX_PCI_DEVICES = 4096;

export const kind: SourceKind<NvmlSettings> = {
  detect,
  create(settings, { intervalMs, facts, host, clock, logger }) {
    const interval = settings.interval ?? intervalMs;
    return createNvmlCollectors({
      library: settings.library,
      intervalMs: interval,
      slowIntervalMs: settings.slow_interval,
      timeoutMs: settings.timeout,
      keepOpen: settings.keep_open ?? interval < KEEP_OPEN_BELOW_MS,
      identities: new GpuIdentities(facts, clock),
      proc: host.proc,
      clock,
      logger,
    });
  },
};

/**
 * The library, and a driver or a board: a library alone is in many an image. A board without a driver counts, for
 * then there is something to say.
 */
async function detect({ library }: NvmlSettings, { host }: Surroundings): Promise<Detection> {
  const found = await findLibrary(library, host.root);
  if (found === undefined) {
    return {
      found: false,
      why: `no ${library}`,
      hint: 'install the NVIDIA driver with its compute libraries',
    };
  }
  const driver = await driverVersion(host);
  if (driver !== undefined) return { found: true, what: `${found}, driver ${driver}` };
  if (await hasBoard(host)) {
    return {
      found: true,
      what: `${found}, driver not loaded`,
      hint: 'load the NVIDIA driver: modprobe nvidia',
    };
  }
  return { found: false, why: `${found} is there, but no NVIDIA driver and no board` };
}

async function findLibrary(library: string, root: string): Promise<string | undefined> {
  const paths = isAbsolute(library) ? [library] : FOLDERS.map((folder) => join(root, folder, library));
  for (const path of paths) {
    try {
      return await realpath(path);
    } catch {
      // The next one.
    }
  }
  return undefined;
}

/**
 * From `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 ...`; 'unknown' where only the device
 * is seen.
 */
async function driverVersion({ proc, dev }: HostPaths): Promise<string | undefined> {
  try {
    const text = await readFile(join(proc, 'driver/nvidia/version'), 'latin1');
    return /\s(\d+(?:\.\d+)+)\s/.exec(text)?.[1] ?? 'unknown';
  } catch {
    const devices = ['nvidiactl', 'dxg'].map((name) => access(join(dev, name)));
    return await Promise.any(devices).then(
      () => 'unknown',
      () => undefined,
    );
  }
}

async function hasBoard({ sys }: HostPaths): Promise<boolean> {
  const folder = join(sys, 'bus/pci/devices');
  const devices = await readdir(folder).catch(() => []);
  for (const device of devices.slice(0, MAX_PCI_DEVICES)) {
    const read = (name: string): Promise<string> =>
      readFile(join(folder, device, name), 'latin1').catch(() => '');
    if ((await read('vendor')).trim() !== NVIDIA_VENDOR) continue;
    if ((await read('class')).startsWith(DISPLAY_CLASS)) return true;
  }
  return false;
}
