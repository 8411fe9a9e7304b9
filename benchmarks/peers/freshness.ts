import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../macro/store.ts';
import { MARKER } from './dcgm-page.ts';

const LOOK_EVERY_MS = 50;
/** A query for all nodes of a fleet would load the store that is measured. */
const MOST_TARGETS = 10;

/** Ages of samples at the moment when a query of the store first shows them, seconds. */
export interface Freshness {
  readonly p50: number;
  readonly p99: number;
}

/** Asks the store every 50 ms, for `ms`, for the markers of up to ten nodes. */
export async function measureFreshness(store: Store, nodes: number, ms: number): Promise<Freshness> {
  const step = Math.max(1, Math.floor(nodes / MOST_TARGETS));
  const targets = Array.from({ length: Math.min(nodes, MOST_TARGETS) }, (_, i) => i * step);
  const selector = `${MARKER}{target=~"${targets.join('|')}"}`;
  const seen = await store.newest(selector, 'target');
  const ages: number[] = [];
  const until = performance.now() + ms;
  while (performance.now() < until) {
    await sleep(LOOK_EVERY_MS);
    const newest = await store.newest(selector, 'target');
    const now = Date.now();
    for (const [target, servedMs] of newest) {
      if (servedMs <= (seen.get(target) ?? 0)) continue;
      seen.set(target, servedMs);
      ages.push((now - servedMs) / 1000);
    }
  }
  if (ages.length === 0) throw new Error('the store shows no new sample of any node');
  ages.sort((a, b) => a - b);
  const at = (share: number): number => ages[Math.min(ages.length - 1, Math.floor(share * ages.length))]!;
  return { p50: at(0.5), p99: at(0.99) };
}
