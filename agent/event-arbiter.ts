import type { FleetEvent } from '#shared/model/event.ts';

/** More than a node has; beyond it everything is told: twice rather than never. */
const MAX_GPUS = 256;
/** Sees every Xid, with its own time and words; exporters show the last one, sampled. */
const KERNEL_LOG = 'kernel-log';
/** Sources that see the same thing do so within their intervals of 5 minutes at most: what comes later is another. */
const TOGETHER_MS = 600_000;

/**
 * One teller for each event. The kernel log, the exporter and NVML all see the same Xid or the same GPU go: an alert
 * and a count for each of them would be three incidents. What one of them told already is left out.
 */
export class EventArbiter {
  readonly #isReading: (source: string) => boolean;
  /** By GPU: what was told last. */
  readonly #told = new Map<string, { readonly type: string; readonly atMs: number }>();

  /** Whether a source reads at this moment. */
  constructor(isReading: (source: string) => boolean) {
    this.#isReading = isReading;
  }

  /** Whether the event is news. `source` is the collector that tells it. */
  admits(source: string, { type, timestampMs, gpu, gpuUuid, attributes }: FleetEvent): boolean {
    if (type === 'xid') return source === KERNEL_LOG || !this.#isReading(KERNEL_LOG);
    if (type !== 'gpu_lost' && type !== 'gpu_back') return true;
    const key = gpuUuid || attributes.pci || gpu;
    if (key === '') return true;
    const told = this.#told.get(key);
    if (told?.type === type && Math.abs(timestampMs - told.atMs) < TOGETHER_MS) return false;
    if (told || this.#told.size < MAX_GPUS) this.#told.set(key, { type, atMs: timestampMs });
    return true;
  }
}
