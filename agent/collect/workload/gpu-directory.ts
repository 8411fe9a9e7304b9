import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KnownGpu } from '../gpu-identity.ts';
import type { GpuName } from './holding.ts';

/** The labels that name a GPU. */
export type GpuLabels = Readonly<Record<'gpu' | 'uuid' | 'mig_uuid', string>>;

export interface GpuDirectoryOptions {
  /** What the GPU sources know. */
  readonly known: () => readonly KnownGpu[];
  /** /proc of the host. */
  readonly proc: string;
}

/** A card's minor number changes with the driver, which takes everybody off the GPUs: five minutes late is soon enough. */
const LOOK_AGAIN_MS = 300_000;
const MAX_GPUS = 64;

/**
 * Finds index and UUID of a GPU that somebody names in another way. What cannot be found keeps the name that it was
 * given: a label is left out rather than guessed.
 */
export class GpuDirectory {
  readonly #options: GpuDirectoryOptions;
  #minors: ReadonlyMap<number, { uuid: string; pci: string }> = new Map();
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(options: GpuDirectoryOptions) {
    this.#options = options;
  }

  /** To be called before `labelsOf`; reads what the driver says of minor numbers, at most every five minutes. */
  async refresh(nowMs: number): Promise<void> {
    if (nowMs - this.#lookedAt < LOOK_AGAIN_MS) return;
    // A driver that hangs keeps this one read, and no second.
    this.#looking ??= this.#look(nowMs).finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  labelsOf(name: GpuName): GpuLabels {
    const known = this.#options.known();
    if ('uuid' in name) {
      if (name.uuid.startsWith('MIG-')) return this.#ofMig(name.uuid);
      return { gpu: known.find(({ uuid }) => uuid === name.uuid)?.gpu ?? '', uuid: name.uuid, mig_uuid: '' };
    }
    if ('index' in name) {
      const gpu = String(name.index);
      return { gpu, uuid: known.find((one) => one.gpu === gpu)?.uuid ?? '', mig_uuid: '' };
    }
    const pci = 'pci' in name ? name.pci : (this.#minors.get(name.minor)?.pci ?? '');
    const found = known.find((one) => samePci(one.pci, pci));
    const minor = 'minor' in name ? this.#minors.get(name.minor) : undefined;
    // Without anything to go by, the minor is the index on all but partly hidden nodes.
    const gpu = found?.gpu ?? ('minor' in name ? String(name.minor) : '');
    return { gpu, uuid: found?.uuid ?? minor?.uuid ?? '', mig_uuid: '' };
  }

  /** The older form names its GPU: `MIG-GPU-<uuid>/<gpu instance>/<compute instance>`. */
  #ofMig(migUuid: string): GpuLabels {
    const parent = /^MIG-(GPU-[0-9a-fA-F-]+)\//.exec(migUuid)?.[1] ?? '';
    const gpu = this.#options.known().find(({ uuid }) => uuid === parent && uuid !== '')?.gpu ?? '';
    return { gpu, uuid: parent, mig_uuid: migUuid };
  }

  /** `/proc/driver/nvidia/gpus/0000:01:00.0/information`: needs no library, and no right. */
  async #look(nowMs: number): Promise<void> {
    const folder = join(this.#options.proc, 'driver', 'nvidia', 'gpus');
    const minors = new Map<number, { uuid: string; pci: string }>();
    for (const pci of (await readdir(folder).catch(() => [])).slice(0, MAX_GPUS)) {
      const text = await readFile(join(folder, pci, 'information'), 'utf8').catch(() => '');
      const minor = /^Device Minor:\s*(\d{1,3})\s*$/m.exec(text)?.[1];
      const uuid = /^GPU UUID:\s*(GPU-[0-9a-fA-F-]{36})\s*$/m.exec(text)?.[1] ?? '';
      if (minor !== undefined) minors.set(Number(minor), { uuid, pci });
    }
    this.#minors = minors;
    this.#lookedAt = nowMs;
  }
}

/** Domains are written with four digits or eight. */
function samePci(a: string, b: string): boolean {
  const bare = (pci: string): string => pci.toLowerCase().replace(/^0*(?=[0-9a-f]{4}:)/, '');
  return b !== '' && bare(a) === bare(b);
}
