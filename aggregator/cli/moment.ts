import { parseDuration } from '#shared/config/values.ts';

const RFC_3339 = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/i;
/** The years 1970 to 9999: what a Timestamp of the contract can say. */
const MAX_TIME_MS = 253_402_300_799_999;

/**
 * A moment as people type it, Unix ms: a day (UTC), a time with its zone, Unix seconds, or how long ago (`2h`).
 * Undefined for anything else.
 */
export function momentOf(text: string, nowMs: number): number | undefined {
  return momentFrom(text, nowMs, -1);
}

/** The same for an end, where a span counts from now on (`2h`). */
export function endOf(text: string, nowMs: number): number | undefined {
  return momentFrom(text, nowMs, 1);
}

function momentFrom(text: string, nowMs: number, direction: 1 | -1): number | undefined {
  const span = parseDuration(text);
  const ms =
    span !== undefined
      ? nowMs + direction * span
      : RFC_3339.test(text)
        ? Date.parse(text)
        : /^\d{9,12}(\.\d+)?$/.test(text)
          ? Math.round(Number(text) * 1000)
          : Number.NaN;
  return ms >= 0 && ms <= MAX_TIME_MS ? ms : undefined;
}
