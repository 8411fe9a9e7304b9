import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../macro/store.ts';
import { MARKER } from './dcgm-page.ts';
import type { Served } from './fleet-server.ts';

const LOOK_EVERY_MS = 50;
/** What is younger may still be on its way: the interval, and twice the second for which the store holds rows. */
const UNDER_WAY_MS = 3_500;
/** Between two exports of all markers. */
const EXPORT_EVERY_MS = 1_000;

export interface Recovery {
  /** The most rows that the store took in a second. */
  readonly peakRowsPerSecond: number;
  /** Scrapes that were served and never came. */
  readonly missingScrapes: number;
}

export interface RecoveryOptions {
  readonly served: () => Promise<Served>;
  /** Scrapes before this are not looked at. */
  readonly fromMs: number;
  /** Without one more scrape for so long, what is missing is lost. */
  readonly patienceMs: number;
  /** A scrape in these milliseconds was read by a process that was killed before it could keep it: not counted. */
  readonly excused: readonly { readonly fromMs: number; readonly toMs: number }[];
}

/** Watches a store that is back until everything that was served has come, or nothing more does. */
export async function watchRecovery(store: Store, options: RecoveryOptions): Promise<Recovery> {
  let peak = 0;
  let last: { at: number; rows: number } | undefined;
  let best = Number.POSITIVE_INFINITY;
  let bestAt = performance.now();
  let nextExport = performance.now() + EXPORT_EVERY_MS;
  for (;;) {
    // The count is renewed once a second: the difference between two counts is a second's rate.
    const rows = await store.rows();
    const at = performance.now();
    if (last === undefined || rows !== last.rows) {
      if (last !== undefined) peak = Math.max(peak, (rows - last.rows) / ((at - last.at) / 1000));
      last = { at, rows };
    }
    if (at >= nextExport) {
      const missing = await countMissing(store, options);
      if (missing < best) {
        best = missing;
        bestAt = at;
      }
      if (best === 0 || at - bestAt > options.patienceMs)
        return { peakRowsPerSecond: peak, missingScrapes: best };
      nextExport = performance.now() + EXPORT_EVERY_MS;
    }
    await sleep(LOOK_EVERY_MS);
  }
}

async function countMissing(store: Store, { served, fromMs, excused }: RecoveryOptions): Promise<number> {
  const toMs = Date.now() - UNDER_WAY_MS;
  const scrapes = await served();
  const stored = await store.values(MARKER, 'target');
  let missing = 0;
  scrapes.forEach((times, target) => {
    const there = stored.get(String(target));
    for (const time of times) {
      if (time < fromMs || time > toMs || there?.has(time)) continue;
      if (!excused.some((span) => time >= span.fromMs && time <= span.toMs)) missing++;
    }
  });
  return missing;
}
