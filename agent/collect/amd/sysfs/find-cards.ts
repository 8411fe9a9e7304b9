import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fact, uuidOf } from '../gpu-identity.ts';
import type { Sensors } from './key-place.ts';

/** A GPU that the amdgpu driver has. */
export interface FoundCard {
  /** card0 */
  readonly name: string;
  /** Its device's folder. */
  readonly path: string;
  /** 0000:0c:00.0 */
  readonly pci: string;
  readonly uuid: string;
  readonly model: string;
  /** Labels of gpu_info. */
  readonly facts: Readonly<Record<string, string | undefined>>;
  readonly sensors: Sensors | undefined;
}

/** More than a node has, partitions included. */
const MAX_CARDS = 128;
/** A sensor's number: temp1 to temp16. */
const MAX_SENSORS = 64;

/** The names under class/drm that may be GPUs, sorted; empty where the folder is not there. */
export async function cardNames(sys: string): Promise<string[]> {
  try {
    const names = await readdir(join(sys, 'class', 'drm'));
    return names
      .filter((name) => /^card\d{1,4}$/.test(name))
      .sort()
      .slice(0, MAX_CARDS);
  } catch {
    return [];
  }
}

/** The GPU behind a name, or undefined where it is another driver's, a partition's, or gone. */
export async function findCard(sys: string, name: string): Promise<FoundCard | undefined> {
  const path = join(sys, 'class', 'drm', name, 'device');
  const uevent = await textOf(join(path, 'uevent'));
  if (!/^DRIVER=amdgpu$/m.test(uevent)) return undefined;
  const pci = /^PCI_SLOT_NAME=([0-9a-f:.]{7,16})$/m.exec(uevent)?.[1];
  if (pci === undefined) return undefined;
  const read = async (file: string) => fact(await textOf(join(path, file)));
  const device = /^PCI_ID=1002:([0-9A-F]{4})$/m.exec(uevent)?.[1]?.toLowerCase();
  return {
    name,
    path,
    pci,
    uuid: uuidOf(await read('unique_id')),
    model: (await read('product_name')) ?? (device ? `AMD GPU 0x${device}` : 'AMD GPU'),
    facts: {
      vendor: 'amd',
      pci_bus_id: pci,
      device: name,
      serial: await read('serial_number'),
      product_number: await read('product_number'),
      vbios_version: await read('vbios_version'),
      compute_partition: await read('current_compute_partition'),
      memory_partition: await read('current_memory_partition'),
    },
    sensors: await findSensors(path),
  };
}

/** The folder's name has a number that the next boot or driver load may change. */
async function findSensors(path: string): Promise<Sensors | undefined> {
  const hwmon = (await namesIn(join(path, 'hwmon'))).find((name) => /^hwmon\d+$/.test(name));
  if (hwmon === undefined) return undefined;
  const folder = `hwmon/${hwmon}`;
  const labels = (await namesIn(join(path, folder))).filter((name) => /^(temp|in)\d+_label$/.test(name));
  const byLabel = new Map<string, string>();
  for (const file of labels.slice(0, MAX_SENSORS)) {
    const label = (await textOf(join(path, folder, file))).trim();
    const sensor = file.slice(0, -'_label'.length);
    byLabel.set(`${sensor.replace(/\d+$/, '')}(${label})`, sensor);
  }
  return { folder, byLabel };
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => []);
}

/** Empty where it cannot be read: the field is then unknown. At most a page, as everything in sysfs. */
async function textOf(file: string): Promise<string> {
  return await readFile(file, 'utf8').catch(() => '');
}
