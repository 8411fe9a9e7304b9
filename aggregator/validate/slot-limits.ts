import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';

/** What each slot's values must be in, both ends included: the catalogue's physical range in the base unit. */
export interface SlotLimits {
  readonly low: Float64Array;
  readonly high: Float64Array;
}

const compiled = new WeakMap<Dictionary, SlotLimits>();

/** Resolved once for each dictionary. */
export function limitsOf(dictionary: Dictionary): SlotLimits {
  let limits = compiled.get(dictionary);
  if (!limits) {
    limits = {
      low: Float64Array.from(dictionary.series, lowOf),
      high: Float64Array.from(dictionary.series, highOf),
    };
    compiled.set(dictionary, limits);
  }
  return limits;
}

/**
 * A metric that passes through has no physical range that we know: it must be finite, and a counter not negative.
 * Prometheus allows an infinite gauge; one would turn every mean that it enters into no number.
 */
function lowOf({ name, kind }: Series): number {
  const catalogued = metricNamed(name)?.min ?? -Number.MAX_VALUE;
  return kind === 'counter' ? Math.max(0, catalogued) : catalogued;
}

function highOf({ name }: Series): number {
  return metricNamed(name)?.max ?? Number.MAX_VALUE;
}
