import type { Tick } from '#shared/model/block.ts';

/** A tick that is older than so many intervals of its source, and than FRESH_MS, is no news: as SourceArbiter has it. */
const FRESH_INTERVALS = 3;
const FRESH_MS = 15_000;

/**
 * Without those of sources that were not read lately: paused, or hanging. Their last values are not what is now, and
 * another source may have taken over the same series.
 */
export function freshTicks(ticks: Iterable<Tick>, nowMs: number): Tick[] {
  return [...ticks].filter(
    ({ dictionary, timestampMs }) =>
      nowMs - timestampMs <= Math.max(FRESH_MS, FRESH_INTERVALS * dictionary.intervalMs),
  );
}
