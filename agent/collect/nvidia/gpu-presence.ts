import type { FleetEvent } from '#shared/model/event.ts';

/** A GPU that a source names. */
export interface ListedGpu {
  /** What it is recognised by: its UUID, or its index where the source gives none. */
  readonly key: string;
  readonly gpu: string;
  readonly uuid: string;
  /** What else tells which board it is, for the event: pci, serial. */
  readonly details?: Readonly<Record<string, string>>;
}

export interface GpuPresenceOptions {
  /** The source's name, for people. */
  readonly source: string;
  /**
   * A GPU is lost after so many reads in a row that do not list it. 1 for a source that lists what is there; more for
   * one that shows an empty page while it restarts.
   */
  readonly patience: number;
}

interface Watched {
  gpu: ListedGpu;
  missing: number;
  lost: boolean;
}

/** More GPUs than a node has: a page of invented ones must not fill memory. Those beyond are not watched. */
const MAX_WATCHED = 256;
const NOBODY: ReadonlyMap<string, string> = new Map();

/** Says when a GPU that a source listed is lost, and when it is back. */
export class GpuPresence {
  readonly #source: string;
  readonly #patience: number;
  readonly #known = new Map<string, Watched>();

  constructor({ source, patience }: GpuPresenceOptions) {
    this.#source = source;
    this.#patience = patience;
  }

  /**
   * To be called with the GPUs of each successful read. `saidLost` has the key of each GPU that the source itself
   * calls lost, and its words: such a GPU is lost at once, listed or not.
   */
  observe(
    gpus: readonly ListedGpu[],
    timestampMs: number,
    saidLost: ReadonlyMap<string, string> = NOBODY,
  ): FleetEvent[] {
    const events: FleetEvent[] = [];
    for (const entry of this.#known.values()) entry.missing++;
    for (const gpu of gpus) this.#list(gpu);
    for (const entry of this.#known.values()) {
      const { gpu, missing, lost } = entry;
      const why = saidLost.get(gpu.key);
      if (!lost && (why !== undefined || missing >= this.#patience)) {
        entry.lost = true;
        events.push(this.#event('gpu_lost', gpu, timestampMs, this.#lostText(gpu, why)));
      } else if (lost && why === undefined && missing === 0) {
        entry.lost = false;
        const text = `GPU ${gpu.gpu} is listed by ${this.#source} again`;
        events.push(this.#event('gpu_back', gpu, timestampMs, text));
      }
    }
    return events;
  }

  get anyLost(): boolean {
    return [...this.#known.values()].some(({ lost }) => lost);
  }

  isLost(key: string): boolean {
    return this.#known.get(key)?.lost ?? false;
  }

  #list(gpu: ListedGpu): void {
    const entry = this.#known.get(gpu.key);
    if (entry) {
      entry.gpu = gpu;
      entry.missing = 0;
    } else if (this.#known.size < MAX_WATCHED) {
      this.#known.set(gpu.key, { gpu, missing: 0, lost: false });
    }
  }

  #lostText({ gpu, key }: ListedGpu, why: string | undefined): string {
    return why === undefined
      ? `GPU ${gpu} is no longer listed by ${this.#source}, which still answers`
      : `GPU ${gpu || key} is lost: ${this.#source} says "${why}"`;
  }

  #event(
    type: 'gpu_lost' | 'gpu_back',
    { gpu, uuid, details }: ListedGpu,
    timestampMs: number,
    text: string,
  ): FleetEvent {
    return { type, timestampMs, gpu, gpuUuid: uuid, text, attributes: { source: this.#source, ...details } };
  }
}
