import { gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Tick } from '#shared/model/block.ts';
import { SLOT_STATE_NAMES, type SlotState } from '#shared/model/slot-state.ts';

/** What the gauges look at when they are scraped. */
export interface SourceView {
  /** The newest tick of each group. */
  readonly ticks: Iterable<Tick>;
  readonly sources: readonly { readonly name: string; readonly state: string; readonly lastReadMs: number }[];
  /** Unix ms; undefined while collecting is not paused. */
  readonly pausedUntil: number | undefined;
  readonly nowMs: number;
}

/** Gauges about the sources and their series, read when scraped. Labels are bounded by the number of sources. */
export function sourceMetrics(registry: Registry, view: () => SourceView): void {
  gauge(registry, {
    name: 'gpufleet_agent_slots',
    help: 'Series of the newest read by source and state: present, or the reason why there is no value.',
    labelNames: ['source', 'state'],
    collect() {
      this.reset();
      for (const tick of view().ticks) {
        const source = tick.dictionary.group;
        for (const [state, count] of slotCounts(tick.states)) this.set({ source, state }, count);
      }
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_source_up',
    help: '1 for a source whose last read worked, else 0, by source.',
    labelNames: ['source'],
    collect() {
      this.reset();
      for (const { name, state } of view().sources) this.set({ source: name }, state === 'reading' ? 1 : 0);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_source_age_seconds',
    help: 'Seconds since the last read of a source that worked; absent before the first.',
    labelNames: ['source'],
    collect() {
      this.reset();
      const { sources, nowMs } = view();
      for (const { name, lastReadMs } of sources)
        if (lastReadMs > 0) this.set({ source: name }, Math.max(0, nowMs - lastReadMs) / 1000);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_pause_remaining_seconds',
    help: 'Seconds until a pause of collecting ends by itself; 0 while there is none.',
    collect() {
      const { pausedUntil, nowMs } = view();
      this.set(pausedUntil === undefined ? 0 : Math.max(1, pausedUntil - nowMs) / 1000);
    },
  });
}

/** How many slots are in each state, by the name that people read; every state of the tick and `present`. */
export function slotCounts(states: Uint8Array): Map<string, number> {
  const counts = new Map([['present', 0]]);
  for (const state of states) {
    const name = SLOT_STATE_NAMES.get(state as SlotState) ?? 'unknown';
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
