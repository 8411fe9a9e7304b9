import type { LevelledRule } from './rules/rules.ts';
import type { TrackedAlert } from './tracked-alert.ts';

/** Whether a value lies on the wrong side of a limit; never where either is no number (NaN). */
export function isBeyond(rule: LevelledRule, value: number, limit: number): boolean {
  return rule.direction === 'above' ? value > limit : value < limit;
}

/** Whether a value is beyond any of the rule's limits. */
export function isBeyondAny(rule: LevelledRule, value: number, limits: Float64Array): boolean {
  for (let level = 0; level < rule.levels.length; level++) {
    if (isBeyond(rule, value, limits[level]!)) return true;
  }
  return false;
}

/**
 * Takes a sample of time `t` into the alert's levels. A level begins once its limit was passed for its `for`, and ends
 * once the value is `clear` back from it and has not passed it again for `keep_firing_for`. After a gap nobody knows
 * what was: both begin to count anew. A level whose limit is not known (NaN) stays as it was.
 */
export function stepLevels(
  tracked: TrackedAlert,
  rule: LevelledRule,
  value: number,
  limits: Float64Array,
  t: number,
  afterGap: boolean,
): void {
  for (let level = 0; level < rule.levels.length; level++) {
    const limit = limits[level]!;
    if (Number.isNaN(limit)) continue;
    if (tracked.active[level]) {
      stepActive(tracked, rule, level, value, limit, t, afterGap);
    } else if (isBeyond(rule, value, limit)) {
      if (Number.isNaN(tracked.since[level]!) || afterGap) tracked.since[level] = t;
      tracked.active[level] = t - tracked.since[level]! >= rule.levels[level]!.forMs;
    } else {
      tracked.since[level] = Number.NaN;
    }
  }
}

function stepActive(
  tracked: TrackedAlert,
  rule: LevelledRule,
  level: number,
  value: number,
  limit: number,
  t: number,
  afterGap: boolean,
): void {
  const ended = tracked.ended[level]!;
  const goesOn = Number.isNaN(ended);
  // Hysteresis: an active level ends only `clear` back from its limit, and then is back only beyond that.
  const edge = !goesOn ? limit : rule.direction === 'above' ? limit - rule.clear : limit + rule.clear;
  if (isBeyond(rule, value, edge)) {
    if (!goesOn) tracked.ended[level] = Number.NaN;
    return;
  }
  if (rule.keepFiringMs > 0) {
    if (goesOn || afterGap) tracked.ended[level] = t;
    if (t - tracked.ended[level]! < rule.keepFiringMs) return;
  }
  tracked.active[level] = false;
  tracked.since[level] = Number.NaN;
  tracked.ended[level] = Number.NaN;
}

/** The highest level that fires, or -1. */
export function topActive({ active }: TrackedAlert): number {
  return active.lastIndexOf(true);
}

/** The highest level that holds, for its `for` or not yet, or -1. */
export function topHolding({ since }: TrackedAlert): number {
  for (let level = since.length - 1; level >= 0; level--) if (!Number.isNaN(since[level]!)) return level;
  return -1;
}

/** Whether an active level's condition holds, and it does not only fire on. */
export function conditionHolds({ active, ended }: TrackedAlert): boolean {
  return active.some((one, level) => one && Number.isNaN(ended[level]!));
}

/** Since when the level that holds longest does. */
export function earliest(since: readonly number[]): number {
  let first = Number.POSITIVE_INFINITY;
  for (const t of since) if (t < first) first = t;
  return first;
}
