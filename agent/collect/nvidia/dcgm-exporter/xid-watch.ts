import { XID_CATALOGUE_VERSION, xidNamed } from '#shared/catalogue/xid.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { KEPT_SCRAPES } from '../../series-table.ts';
import type { Gpu } from './scrape-plan.ts';

/**
 * The last Xid that was seen of each GPU, kept across restarts of the agent: the exporter never clears its value,
 * and an old Xid must not become news again. A key is a UUID, or UUID/MIG id.
 */
export interface LastXids {
  get(key: string): number | undefined;
  set(key: string, code: number): void;
}

/** What a scrape says about Xids of a GPU. */
export interface XidSighting {
  readonly gpu: Gpu;
  readonly migId: string;
  /** 0: none so far. */
  readonly code: number;
  /** How often within the exporter's window; undefined for the field that holds the last code. */
  readonly count: number | undefined;
}

/** More GPUs and MIG instances than a node has, and more (GPU, code) pairs: see GpuPresence. */
const MAX_WATCHED = 1024;

/**
 * Turns dcgm-exporter's two views of Xids into events.
 *
 * DCGM_FI_DEV_XID_ERRORS holds the last code for ever, so a change to another code is an event, and the same Xid
 * twice cannot be seen. DCGM_EXP_XID_ERRORS_COUNT counts each code over a moving window, so a rise is an event. Both
 * tell of the same Xid, in one scrape or in two that follow each other: the second to tell is not another event.
 * What is there at the first sight of a GPU is not news.
 */
export class XidWatch {
  readonly #source: string;
  readonly #last: LastXids;
  readonly #seen = new Set<string>();
  readonly #counts = new Map<string, { count: number; unseen: number }>();
  /** The newest event of a (GPU, code): of this scrape or the one before. */
  #raised = new Map<string, { scrape: number; byCount: boolean }>();
  #scrape = 0;

  constructor(source: string, last: LastXids) {
    this.#source = source;
    this.#last = last;
  }

  /** To be called for each successful scrape. */
  observe(sightings: readonly XidSighting[], timestampMs: number): FleetEvent[] {
    this.#scrape++;
    this.#forget();
    const events: FleetEvent[] = [];
    for (const sighting of sightings) {
      const key = keyOf(sighting);
      if (!this.#seen.has(key) && this.#seen.size >= MAX_WATCHED) continue;
      const news = sighting.count === undefined ? this.#changed(key, sighting) : this.#rose(key, sighting);
      if (news && this.#isFirst(sighting)) events.push(this.#event(sighting, timestampMs));
    }
    for (const sighting of sightings) if (this.#seen.size < MAX_WATCHED) this.#seen.add(keyOf(sighting));
    return events;
  }

  #changed(key: string, { code }: XidSighting): boolean {
    const before = this.#last.get(key);
    if (before === code) return false;
    this.#last.set(key, code);
    return before !== undefined && code !== 0;
  }

  #rose(key: string, { code, count = 0 }: XidSighting): boolean {
    const pair = `${key} ${code}`;
    const known = this.#counts.get(pair);
    if (!known && this.#counts.size >= MAX_WATCHED) return false;
    this.#counts.set(pair, { count, unseen: 0 });
    return this.#seen.has(key) && count > (known?.count ?? 0);
  }

  #isFirst({ gpu, code, count }: XidSighting): boolean {
    const pair = `${gpu.key} ${code}`;
    const byCount = count !== undefined;
    const before = this.#raised.get(pair);
    if (before && (before.scrape === this.#scrape || before.byCount !== byCount)) return false;
    this.#raised.set(pair, { scrape: this.#scrape, byCount });
    return true;
  }

  #forget(): void {
    for (const [pair, { scrape }] of this.#raised) if (scrape < this.#scrape - 1) this.#raised.delete(pair);
    // A code that left its window is no longer listed; nor is one while the exporter restarts.
    for (const [pair, entry] of this.#counts) if (++entry.unseen > KEPT_SCRAPES) this.#counts.delete(pair);
  }

  #event({ gpu, migId, code }: XidSighting, timestampMs: number): FleetEvent {
    const { name, severity, meaning } = xidNamed(code);
    const instance = migId === '' ? '' : `, MIG instance ${migId}`;
    return {
      type: 'xid',
      timestampMs,
      gpu: gpu.gpu,
      gpuUuid: gpu.uuid,
      text: `Xid ${code} on GPU ${gpu.gpu}${instance}: ${name}. ${meaning}`,
      attributes: {
        code: String(code),
        name,
        severity,
        source: this.#source,
        catalogue: String(XID_CATALOGUE_VERSION),
      },
    };
  }
}

function keyOf({ gpu, migId }: XidSighting): string {
  return migId === '' ? gpu.key : `${gpu.key}/${migId}`;
}
