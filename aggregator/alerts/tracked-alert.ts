import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { EventRule, Rule } from './rules/rules.ts';

/** What the engine keeps of one alert. The message is replaced at each change, never written to. */
export interface TrackedAlert {
  rule: Rule;
  alert: Alert;
  /** The message before a pending began, put back where the pending ends without firing. */
  beforePending: Alert | undefined;
  /** For each level of a levelled rule: sample time since when it holds, NaN where it does not. */
  since: number[];
  /** For each level: it has held for its `for`, and has not cleared. */
  active: boolean[];
  /** For each level: since when an active one fires on without its condition; NaN where that holds. */
  ended: number[];
  /** Time of the newest sample or event seen. */
  seenMs: number;
  /** When it was seen, by the aggregator's clock. */
  heardMs: number;
  intervalMs: number;
  /** When an event alert ends, by the aggregator's clock; infinite for levelled rules. */
  expiresMs: number;
  /** As what the table counts it among those that fire; UNSPECIFIED where it does not. */
  countedAs: Severity;
}

/** An alert of which nothing is known yet. */
export function trackAlert(rule: Rule, alert: Alert): TrackedAlert {
  return {
    rule,
    alert,
    beforePending: undefined,
    ...noLevels(rule),
    seenMs: Number.NEGATIVE_INFINITY,
    heardMs: Number.NEGATIVE_INFINITY,
    intervalMs: 0,
    expiresMs: Number.POSITIVE_INFINITY,
    countedAs: Severity.UNSPECIFIED,
  };
}

/** An alert of an earlier run; `nowMs` is the aggregator's time. */
export function restoreAlert(alert: Alert, rule: Rule, nowMs: number): TrackedAlert {
  const tracked = trackAlert(rule, alert);
  if (rule.kind === 'event') {
    const updatedMs = updated(alert, nowMs);
    tracked.seenMs = updatedMs;
    // When a late event arrived is not kept: it is shown for a whole `expires` again rather than not at all.
    tracked.expiresMs = (alert.late ? nowMs : Math.min(updatedMs, nowMs)) + rule.expiresMs;
  } else {
    activateLevels(tracked, nowMs);
  }
  return tracked;
}

/**
 * Puts the alert under a changed rule of the same kind: it stays what it is until the next sample judges it. Levels
 * that held and did not yet fire count on where the changed rule has one of the same severity.
 */
export function adoptRule(tracked: TrackedAlert, rule: Rule, nowMs: number): void {
  const earlier = tracked.rule;
  tracked.rule = rule;
  if (rule.kind === 'event') {
    if (earlier.kind === 'event') tracked.expiresMs += rule.expiresMs - earlier.expiresMs;
    return;
  }
  const since = new Map<Severity, number>();
  if (earlier.kind !== 'event') {
    for (const [level, { severity }] of earlier.levels.entries()) since.set(severity, tracked.since[level]!);
  }
  Object.assign(tracked, noLevels(rule));
  for (const [level, { severity }] of rule.levels.entries()) {
    tracked.since[level] = since.get(severity) ?? Number.NaN;
  }
  activateLevels(tracked, nowMs);
}

/** Forgets what held. */
export function forgetLevels(tracked: TrackedAlert): void {
  Object.assign(tracked, noLevels(tracked.rule));
}

/** Stands in for a rule that is no longer in the file, until its alert is dropped. */
export function orphanRule(alert: Alert): EventRule {
  return {
    kind: 'event',
    name: alert.rule,
    summary: alert.rule,
    annotations: {},
    addLabels: {},
    event: '',
    codes: 'any',
    key: undefined,
    where: {},
    until: undefined,
    severity: Severity.UNSPECIFIED,
    expiresMs: 0,
  };
}

function noLevels(rule: Rule): Pick<TrackedAlert, 'since' | 'active' | 'ended'> {
  const levels = rule.kind === 'event' ? 0 : rule.levels.length;
  return {
    since: new Array<number>(levels).fill(Number.NaN),
    active: new Array<boolean>(levels).fill(false),
    ended: new Array<number>(levels).fill(Number.NaN),
  };
}

/** Takes the levels up to the alert's severity for active: one that fires, or is suppressed, does so at once. */
function activateLevels(tracked: TrackedAlert, nowMs: number): void {
  const { alert, rule } = tracked;
  if (rule.kind === 'event' || (alert.state !== AlertState.FIRING && !alert.suppressed)) return;
  const startedMs = alert.startedAt ? timestampMs(alert.startedAt) : updated(alert, nowMs);
  for (const [level, { severity }] of rule.levels.entries()) {
    if (level > 0 && severity > alert.severity) continue;
    tracked.since[level] = startedMs;
    tracked.active[level] = true;
  }
}

function updated(alert: Alert, nowMs: number): number {
  return alert.updatedAt ? timestampMs(alert.updatedAt) : nowMs;
}
