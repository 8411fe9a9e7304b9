import type { FleetEvent } from '#shared/model/event.ts';
import type { Gpu } from './scrape-plan.ts';
import type { XidSighting } from './xid-watch.ts';

/** "GPU has fallen off the bus": what every catalogue agrees on. */
const FALLEN = '79';

/**
 * GPUs that the exporter itself calls lost: an Xid 79 that was news. dcgm-exporter may go on printing what it last
 * knew of such a GPU, or leave it out.
 */
export class OffBus {
  /** The text by the GPU's key; as many as there are GPUs. */
  readonly #fallen = new Map<string, string>();

  /**
   * To be called for each successful scrape, with the Xid events that it gave. A GPU is no longer fallen when its last
   * Xid is another one, or when the page left it out: then GpuPresence knows when it is listed again.
   */
  observe(
    gpus: readonly Gpu[],
    sightings: readonly XidSighting[],
    xids: readonly FleetEvent[],
  ): ReadonlyMap<string, string> {
    const listed = new Set(gpus.map(({ key }) => key));
    for (const key of this.#fallen.keys()) if (!listed.has(key)) this.#fallen.delete(key);
    for (const { gpu, code, count } of sightings)
      if (count === undefined && String(code) !== FALLEN) this.#fallen.delete(gpu.key);
    for (const { type, attributes, gpu, gpuUuid } of xids)
      if (type === 'xid' && attributes.code === FALLEN)
        this.#fallen.set(gpuUuid || gpu, `Xid ${FALLEN}: ${attributes.name}`);
    return this.#fallen;
  }
}
