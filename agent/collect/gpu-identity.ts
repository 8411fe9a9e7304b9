import type { Clock } from '#shared/model/clock.ts';
import type { Facts } from './source-kind.ts';

/** A GPU as it was last seen in a PCI slot of this node. */
export interface KnownGpu {
  /** See normalPci. */
  readonly pci: string;
  readonly uuid: string;
  /** Empty where the board has none. */
  readonly serial: string;
  /** Its index, as the driver counts. */
  readonly gpu: string;
  readonly model: string;
  /** Unix ms; brought up to date once an hour. */
  readonly seenMs: number;
  /** It was there and is not any more. */
  readonly lost: boolean;
}

const FACT = 'gpu-identities';
/** More PCI slots than a node has: the one that was not seen for longest makes room. */
const MAX_KNOWN = 64;
const REFRESH_MS = 3_600_000;

/**
 * Which GPU was last in which PCI slot, kept over restarts: the kernel log names a GPU by its PCI address, also when
 * the driver does not know it any more. Several objects over the same facts see the same table.
 */
export class GpuIdentities {
  readonly #facts: Facts;
  readonly #clock: Clock;
  #text: string | undefined;
  #known: readonly KnownGpu[] = [];

  constructor(facts: Facts, clock: Clock) {
    this.#facts = facts;
    this.#clock = clock;
  }

  get all(): readonly KnownGpu[] {
    const text = this.#facts.get(FACT);
    if (text !== this.#text) {
      this.#text = text;
      this.#known = parseKnown(text ?? '[]');
    }
    return this.#known;
  }

  /** By an address in any spelling: see normalPci. */
  byPci(address: string): KnownGpu | undefined {
    const pci = normalPci(address);
    return pci === undefined ? undefined : this.all.find((one) => one.pci === pci);
  }

  byUuid(uuid: string): KnownGpu | undefined {
    return uuid === '' ? undefined : this.all.find((one) => one.uuid === uuid);
  }

  /**
   * A GPU that is there. It takes the place of whatever was in its slot, and of itself in another. Without a readable
   * address or a UUID there is nothing to note.
   */
  note(gpu: Omit<KnownGpu, 'seenMs' | 'lost'>): void {
    const pci = normalPci(gpu.pci);
    if (pci === undefined || gpu.uuid === '') return;
    const now = this.#clock.now();
    const before = this.byPci(pci);
    const same =
      before?.uuid === gpu.uuid &&
      before.gpu === gpu.gpu &&
      before.serial === gpu.serial &&
      before.model === gpu.model;
    if (same && !before.lost && Math.abs(now - before.seenMs) < REFRESH_MS) return;
    const others = this.all.filter((one) => one.pci !== pci && one.uuid !== gpu.uuid);
    const newest = others.toSorted((a, b) => b.seenMs - a.seenMs).slice(0, MAX_KNOWN - 1);
    this.#save([...newest, { ...gpu, pci, seenMs: now, lost: false }]);
  }

  /** It is not there any more. Does nothing for one that is not known. */
  noteLost(uuid: string): void {
    const before = this.byUuid(uuid);
    if (!before || before.lost) return;
    this.#save(this.all.map((one) => (one === before ? { ...one, lost: true } : one)));
  }

  #save(known: readonly KnownGpu[]): void {
    const sorted = known.toSorted((a, b) => (a.pci < b.pci ? -1 : 1));
    this.#facts.set(FACT, JSON.stringify(sorted));
  }
}

/**
 * A PCI address as sysfs writes it, `0000:91:00.0`, from any of
 *
 *     0000:91:00.0      sysfs, lspci
 *     00000000:91:00.0  NVML, nvidia-smi
 *     PCI:0000:91:00    the kernel log: "NVRM: Xid (PCI:0000:91:00): 79, ..."
 *     91:00.0           lspci without domain
 */
export function normalPci(address: string): string | undefined {
  const match = /^(?:PCI:)?(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$/i.exec(
    address.trim(),
  );
  if (!match) return undefined;
  const [, domain = '0', bus, device, part = '0'] = match;
  const number = Number.parseInt(domain, 16).toString(16).padStart(4, '0');
  return `${number}:${bus}:${device}.${part}`.toLowerCase();
}

/** Empty where it cannot be read: it is written anew as GPUs are seen. */
function parseKnown(text: string): readonly KnownGpu[] {
  try {
    const parsed: unknown = JSON.parse(text);
    return Array.isArray(parsed) ? parsed.filter(isKnown).slice(0, MAX_KNOWN) : [];
  } catch {
    return [];
  }
}

function isKnown(one: unknown): one is KnownGpu {
  if (typeof one !== 'object' || one === null) return false;
  const { pci, uuid, serial, gpu, model, seenMs, lost } = one as Record<string, unknown>;
  return (
    [pci, uuid, serial, gpu, model].every((text) => typeof text === 'string') &&
    typeof seenMs === 'number' &&
    typeof lost === 'boolean'
  );
}
