import { refusalOf } from './smi-value.ts';

/** What one run of nvidia-smi said, whatever the format. */
export interface SmiReport {
  /** In the order of nvidia-smi, which is that of the PCI addresses; no UUID twice. */
  readonly gpus: readonly SmiGpu[];
  /** GPUs that it could not open: they have no row. */
  readonly unreachable: readonly UnreachableGpu[];
  /** Rows, GPUs and instances that were there and could not be read. */
  readonly malformed: number;
}

export interface SmiGpu {
  readonly uuid: string;
  readonly index: string;
  readonly model: string;
  /** Of gpu_info; empty where it is not said. */
  readonly facts: Readonly<Record<'driver_version' | 'pci_bus_id' | 'serial' | 'vbios_version', string>>;
  /** Of smiFields, in their order; undefined where the report does not have the field. */
  readonly texts: readonly (string | undefined)[];
  readonly instances: readonly MigInstance[];
}

export interface MigInstance {
  /** The GPU instance's id, which dcgm-exporter calls GPU_I_ID. */
  readonly migId: string;
  /** Of migFields. */
  readonly texts: readonly (string | undefined)[];
}

export interface UnreachableGpu {
  readonly pciBusId: string;
  /** What nvidia-smi said of it. */
  readonly why: string;
}

/** More GPUs than a node has: what comes after is damaged or invented. */
export const MAX_GPUS = 64;

const UUID = /^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function isGpuUuid(text: string): boolean {
  return UUID.test(text);
}

/** The first of several texts that is a value; else the first that says why there is none. */
export function bestText(texts: readonly (string | undefined)[]): string | undefined {
  let refused: string | undefined;
  for (const text of texts) {
    if (text === undefined) continue;
    if (refusalOf(text) === undefined) return text;
    refused ??= text;
  }
  return refused;
}

/** A fact, or nothing where nvidia-smi has none. */
export function factOf(text: string | undefined): string {
  return text === undefined || refusalOf(text) !== undefined ? '' : text;
}

/**
 * Lines of a driver that cannot open a GPU, beside the rows of those that it can, or in their place:
 *
 *     Unable to determine the device handle for GPU3: 0000:04:00.0: Unknown Error
 *     Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU
 */
const NO_HANDLE =
  /^unable to determine the device handle for gpu ?(?:\d+: ?)?([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]): (.+)$/i;

export function unreachableGpus(lines: readonly string[]): UnreachableGpu[] {
  return lines.slice(0, MAX_GPUS).flatMap((line) => {
    const [, pciBusId, why] = NO_HANDLE.exec(line.trim()) ?? [];
    return pciBusId === undefined || why === undefined ? [] : [{ pciBusId, why }];
  });
}
