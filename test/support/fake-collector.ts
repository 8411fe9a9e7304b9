import type { FleetEvent } from '#shared/model/event.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { Collector, Reading } from '../../agent/collect/collector.ts';

export interface FakeCollector extends Collector {
  /** Every reading that was taken, for comparing with what arrived. */
  readonly taken: { readonly values: readonly number[] }[];
  /** Events of the next reading. */
  readonly next: FleetEvent[];
}

/** A source whose every value is known: series `m_<i>` counts its readings, times i + 1. */
export function fakeCollector(series = 10, intervalMs = 100): FakeCollector {
  const dictionary = createDictionary(
    'fake',
    intervalMs,
    Array.from({ length: series }, (_, i) => ({
      name: `m_${i}`,
      labels: [['gpu', String(i)]] as const,
      kind: i % 2 ? 'counter' : 'gauge',
      decimals: 0,
      help: '',
      unit: '',
    })),
  );
  const taken: { values: number[] }[] = [];
  const next: FleetEvent[] = [];
  return {
    name: 'fake',
    intervalMs,
    taken,
    next,
    rank: 50,
    holdsDevice: false,
    describe: () => 'a test',
    async collect(): Promise<Reading> {
      const values = Array.from({ length: series }, (_, i) => (taken.length + 1) * (i + 1));
      taken.push({ values });
      return {
        dictionary,
        timestampMs: 0,
        values: Float64Array.from(values),
        states: new Uint8Array(series),
        events: next.splice(0),
        rejected: new Map(),
      };
    },
    async [Symbol.asyncDispose]() {},
  };
}
