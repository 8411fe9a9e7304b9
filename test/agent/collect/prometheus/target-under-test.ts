import * as v from 'valibot';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import type { Reading } from '../../../../agent/collect/collector.ts';
import { PrometheusCollector } from '../../../../agent/collect/prometheus/collector.ts';
import { prometheusSettings, type TargetSettings } from '../../../../agent/collect/prometheus/settings.ts';

/** A target as the configuration would give it. */
export function targetOf(settings: Readonly<Record<string, unknown>>): TargetSettings {
  return v.parse(prometheusSettings, { targets: [{ name: 'app', ...settings }] }).targets[0]!;
}

export function collectorOf(settings: Readonly<Record<string, unknown>>): PrometheusCollector {
  return new PrometheusCollector({
    target: targetOf(settings),
    intervalMs: 1000,
    clock: systemClock,
    logger: silentLogger,
  });
}

export function scrape(
  collector: PrometheusCollector,
  signal = new AbortController().signal,
): Promise<Reading> {
  return collector.collect(signal);
}

/** `name{label="value"}` to the value, or to the state's name. Without the target's own series. */
export function shown(reading: Reading): Record<string, number | string> {
  const entries = reading.dictionary.series.flatMap(({ name, labels }, slot) => {
    if (labels.some(([label]) => label === 'source')) return [];
    const state = reading.states[slot] as SlotState;
    const value = state === SlotState.Present ? reading.values[slot]! : SLOT_STATE_NAMES.get(state)!;
    return [[`${name}{${labels.map(([l, text]) => `${l}="${text}"`).join(',')}}`, value] as const];
  });
  return Object.fromEntries(entries);
}

export function own(reading: Reading, name: string): number | undefined {
  const slot = reading.dictionary.series.findIndex(
    (series) => series.name === name && series.labels.some(([label]) => label === 'source'),
  );
  return slot < 0 ? undefined : reading.values[slot];
}
