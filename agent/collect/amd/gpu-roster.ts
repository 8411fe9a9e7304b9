import type { FleetEvent } from '#shared/model/event.ts';
import type { Facts } from '../source-kind.ts';

/** A GPU as a source finds it. */
export interface SeenGpu {
  /** 0000:0c:00.0 */
  readonly pci: string;
  readonly uuid: string;
  readonly model: string;
  readonly serial: string;
}

/** One that is or was there. */
export interface KnownGpu extends SeenGpu {
  readonly index: number;
  /** Unix ms; undefined while it is there. */
  readonly lostAt: number | undefined;
}

const FACT = 'amd-sysfs/gpus';
/** More than a node has. */
const MAX_KNOWN = 128;
/** A board that was away for so long was taken out: its number is free again. */
const FORGOTTEN_MS = 7 * 24 * 3_600_000;

/**
 * Which GPUs the node has or had, kept across restarts: the PCI address says the index, the UUID whether it is the
 * same board. An index stays with its PCI address when another GPU vanishes, so that nobody's series change.
 */
export class GpuRoster {
  readonly #source: string;
  readonly #facts: Facts;
  #known: KnownGpu[];

  constructor(source: string, facts: Facts, now: number) {
    this.#source = source;
    this.#facts = facts;
    this.#known = recall(facts.get(FACT)).filter(
      ({ lostAt }) => lostAt === undefined || now - lostAt < FORGOTTEN_MS,
    );
  }

  /** In order of their indices. */
  get known(): readonly KnownGpu[] {
    return this.#known;
  }

  of(pci: string): KnownGpu | undefined {
    return this.#known.find((gpu) => gpu.pci === pci);
  }

  /** To be told who is there at each read. Says who was lost, who is back, and who was replaced. */
  observe(seen: readonly SeenGpu[], timestampMs: number): FleetEvent[] {
    const events: FleetEvent[] = [];
    const next = this.#known.map((gpu) => {
      const now = seen.find(({ pci }) => pci === gpu.pci);
      if (!now) return gpu.lostAt === undefined ? this.#lose(gpu, timestampMs, events) : gpu;
      return this.#meet(gpu, now, timestampMs, events);
    });
    const strangers = seen.filter(({ pci }) => !this.of(pci));
    for (const gpu of [...strangers].sort((a, b) => (a.pci < b.pci ? -1 : 1))) {
      if (next.length >= MAX_KNOWN) break;
      next.push({ ...gpu, index: freeIndex(next), lostAt: undefined });
    }
    if (next.some((gpu, i) => gpu !== this.#known[i])) {
      this.#known = next.sort((a, b) => a.index - b.index);
      this.#facts.set(FACT, JSON.stringify(this.#known));
    }
    return events;
  }

  #lose(gpu: KnownGpu, timestampMs: number, events: FleetEvent[]): KnownGpu {
    const text = `GPU ${gpu.index} at ${gpu.pci} is gone or does not answer any more`;
    events.push(this.#event('gpu_lost', gpu, text, timestampMs));
    return { ...gpu, lostAt: timestampMs };
  }

  #meet(gpu: KnownGpu, now: SeenGpu, timestampMs: number, events: FleetEvent[]): KnownGpu {
    const same = gpu.uuid === now.uuid;
    if (gpu.lostAt !== undefined) {
      const text = same
        ? `GPU ${gpu.index} at ${gpu.pci} is back`
        : `GPU ${gpu.index} at ${gpu.pci} is there again, another board (before: ${gpu.uuid || 'unknown'})`;
      events.push(this.#event('gpu_back', { ...gpu, ...now }, text, timestampMs));
    }
    const unchanged =
      same && gpu.lostAt === undefined && gpu.model === now.model && gpu.serial === now.serial;
    return unchanged ? gpu : { ...gpu, ...now, lostAt: undefined };
  }

  #event(type: 'gpu_lost' | 'gpu_back', gpu: KnownGpu, text: string, timestampMs: number): FleetEvent {
    const attributes = { source: this.#source, pci_bus_id: gpu.pci, serial: gpu.serial };
    return { type, timestampMs, gpu: String(gpu.index), gpuUuid: gpu.uuid, text, attributes };
  }
}

function freeIndex(known: readonly KnownGpu[]): number {
  for (let index = 0; ; index++) if (!known.some((gpu) => gpu.index === index)) return index;
}

/** What is not as it was written is not believed: the GPUs are then met as new. */
function recall(text: string | undefined): KnownGpu[] {
  if (text === undefined) return [];
  try {
    const list: unknown = JSON.parse(text);
    return Array.isArray(list) && list.length <= MAX_KNOWN && list.every(isKnown) ? list : [];
  } catch {
    return [];
  }
}

function isKnown(one: unknown): one is KnownGpu {
  const gpu = one as Partial<KnownGpu> | null;
  const texts = [gpu?.pci, gpu?.uuid, gpu?.model, gpu?.serial];
  return (
    texts.every((text) => typeof text === 'string') &&
    Number.isInteger(gpu?.index) &&
    (gpu?.lostAt === undefined || typeof gpu.lostAt === 'number')
  );
}
