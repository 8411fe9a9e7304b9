import { basename } from 'node:path';
import type { FileReader } from '../host-files/file-reader.ts';
import type { HostPaths } from '../source-kind.ts';

/** A PCI function, where a device of another class is one. */
export interface PciFunction {
  /** 0000:18:00.0 */
  readonly busId: string;
  /** In /sys/devices: through which bridges it is reached. */
  readonly path: string;
  /** Empty where the machine has none to tell. */
  readonly numaNode: string;
}

const BUS_ID = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
/** Drivers of GPUs that compute: what is bound to them is a GPU, and the listing costs one call. */
const GPU_DRIVERS = ['nvidia', 'amdgpu'];
const MAX_GPUS = 32;

/** What the link `device` of a class's folder leads to; undefined where that is no PCI function. */
export async function pciFunction(
  reader: FileReader,
  link: string,
  gate: string,
  signal: AbortSignal,
): Promise<PciFunction | undefined> {
  const path = await reader.target(link, gate, signal);
  if (path === undefined || !BUS_ID.test(basename(path))) return undefined;
  const numaNode = await reader.text(`${path}/numa_node`, gate, signal);
  return { busId: basename(path), path, numaNode: /^\d+$/.test(numaNode ?? '') ? numaNode! : '' };
}

/** Bus ids and paths of the GPUs. */
export async function gpuFunctions(
  reader: FileReader,
  { sys }: HostPaths,
  signal: AbortSignal,
): Promise<PciFunction[]> {
  const found: PciFunction[] = [];
  for (const driver of GPU_DRIVERS) {
    const folder = `${sys}/bus/pci/drivers/${driver}`;
    for (const busId of await reader.list(folder, '', signal)) {
      if (!BUS_ID.test(busId) || found.length >= MAX_GPUS) continue;
      const gpu = await pciFunction(reader, `${folder}/${busId}`, '', signal);
      if (gpu) found.push(gpu);
    }
  }
  return found;
}

/**
 * How near two functions are, in nvidia-smi's words: `pix` over at most one bridge each (one switch), `pxb` over
 * several, `phb` through the host bridge that both hang on. Undefined where they are further apart.
 *
 *     /sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0/0000:18:00.0
 */
export function locality(a: string, b: string): 'pix' | 'pxb' | 'phb' | undefined {
  const one = hops(a);
  const other = hops(b);
  let shared = 0;
  while (shared < one.length - 1 && shared < other.length - 1 && one[shared] === other[shared]) shared++;
  if (shared === 0) return undefined;
  if (shared === 1) return 'phb';
  return one.length - shared <= 2 && other.length - shared <= 2 ? 'pix' : 'pxb';
}

/** From the host bridge on; none where the path has no host bridge. */
function hops(path: string): string[] {
  const parts = path.split('/');
  const bridge = parts.findIndex((part) => /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(part));
  return bridge < 0 ? [] : parts.slice(bridge);
}
