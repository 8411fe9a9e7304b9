import type { FleetEvent } from '#shared/model/event.ts';
import { KEPT_SCRAPES } from '../../series-table.ts';
import type { Gpu } from './scrape-plan.ts';

/** More GPUs than a node has: a page of invented ones must not fill memory. Those beyond are not watched. */
const MAX_WATCHED = 256;

/** Says when a GPU that a source listed is no longer listed although the source answers, and when it is back. */
export class GpuPresence {
  readonly #source: string;
  readonly #known = new Map<string, { gpu: Gpu; missing: number }>();

  constructor(source: string) {
    this.#source = source;
  }

  /**
   * To be called with the GPUs of each successful scrape. A GPU is lost after KEPT_SCRAPES without it, when its
   * series leave the dictionary too: an exporter that restarts may show an empty page.
   */
  observe(gpus: readonly Gpu[], timestampMs: number): FleetEvent[] {
    const events: FleetEvent[] = [];
    for (const entry of this.#known.values()) entry.missing++;
    for (const gpu of gpus) {
      const entry = this.#known.get(gpu.key);
      if (entry && entry.missing > KEPT_SCRAPES) events.push(this.#event('gpu_back', gpu, timestampMs));
      if (entry || this.#known.size < MAX_WATCHED) this.#known.set(gpu.key, { gpu, missing: 0 });
    }
    for (const { gpu, missing } of this.#known.values())
      if (missing === KEPT_SCRAPES) events.push(this.#event('gpu_lost', gpu, timestampMs));
    return events;
  }

  #event(type: 'gpu_lost' | 'gpu_back', { gpu, uuid }: Gpu, timestampMs: number): FleetEvent {
    const text =
      type === 'gpu_lost'
        ? `GPU ${gpu} is no longer listed by ${this.#source}, which still answers`
        : `GPU ${gpu} is listed by ${this.#source} again`;
    return { type, timestampMs, gpu, gpuUuid: uuid, text, attributes: { source: this.#source } };
  }
}
