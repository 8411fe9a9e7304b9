import { type Timestamp, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState, Resolution } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { AlertChange } from './alert-change.ts';
import { earliest, topActive, topHolding } from './level-steps.ts';
import type { LevelledRule } from './rules/rules.ts';
import type { Subject } from './subject.ts';
import { levelSummary } from './summary.ts';
import type { TrackedAlert } from './tracked-alert.ts';

/** What a sample made of an alert. */
interface LevelChange {
  readonly change: AlertChange;
  readonly patch: Partial<Alert>;
}

/** A sample as its alert's levels have taken it. */
interface LevelSample {
  readonly rule: LevelledRule;
  readonly subject: Subject;
  readonly value: number;
  readonly limits: Float64Array;
  readonly t: number;
}

/** The one place where a levelled alert changes state; 'nothing' costs nothing. */
export function changeOf(
  tracked: TrackedAlert,
  rule: LevelledRule,
  subject: Subject,
  value: number,
  limits: Float64Array,
  t: number,
): LevelChange | undefined {
  const { alert } = tracked;
  const top = topActive(tracked);
  if (alert.state === AlertState.FIRING) {
    if (top >= 0 && rule.levels[top]!.severity === alert.severity) return undefined;
    const sample = { rule, subject, value, limits, t };
    return top < 0 ? cleared(alert, sample) : risenOrFallen(alert, sample, top);
  }
  const holding = topHolding(tracked);
  if (alert.suppressed) return holding < 0 ? { change: 'released', patch: { suppressed: false } } : undefined;
  if (top >= 0) return fired(tracked, { rule, subject, value, limits, t }, top);
  if (alert.state === AlertState.PENDING) return holding < 0 ? { change: 'withdrawn', patch: {} } : undefined;
  return holding < 0 ? undefined : pending(tracked, { rule, subject, value, limits, t }, holding);
}

/** What every alert says when it begins to fire. */
export function firingFrom(startedMs: number, at: Timestamp): Partial<Alert> {
  return {
    state: AlertState.FIRING,
    startedAt: timestampFromMs(startedMs),
    firedAt: at,
    resolvedAt: undefined,
    resolution: Resolution.UNSPECIFIED,
    acknowledged: undefined,
    suppressed: false,
    late: false,
  };
}

function cleared(alert: Alert, sample: LevelSample): LevelChange {
  const at = timestampFromMs(sample.t);
  return {
    change: 'resolved',
    patch: {
      ...describe(alert, sample, 0, `no longer ${sample.rule.direction}`, sample.rule.clear),
      ...{ state: AlertState.RESOLVED, resolution: Resolution.CLEARED, resolvedAt: at, updatedAt: at },
    },
  };
}

function risenOrFallen(alert: Alert, sample: LevelSample, top: number): LevelChange {
  return {
    change: 'severity',
    patch: {
      ...describe(alert, sample, top, sample.rule.direction),
      severity: sample.rule.levels[top]!.severity,
      updatedAt: timestampFromMs(sample.t),
    },
  };
}

function fired(tracked: TrackedAlert, sample: LevelSample, top: number): LevelChange {
  const at = timestampFromMs(sample.t);
  return {
    change: 'fired',
    patch: {
      ...describe(tracked.alert, sample, top, sample.rule.direction),
      ...firingFrom(earliest(tracked.since), at),
      severity: sample.rule.levels[top]!.severity,
      updatedAt: at,
    },
  };
}

function pending(tracked: TrackedAlert, sample: LevelSample, holding: number): LevelChange {
  return {
    change: 'pending',
    patch: {
      ...describe(tracked.alert, sample, holding, sample.rule.direction),
      state: AlertState.PENDING,
      severity: sample.rule.levels[holding]!.severity,
      startedAt: timestampFromMs(earliest(tracked.since)),
      updatedAt: timestampFromMs(sample.t),
    },
  };
}

/** Value, limit and sentence; `back` is how far back from the limit the value had to come. */
function describe(
  alert: Alert,
  { rule, subject, value, limits }: LevelSample,
  level: number,
  comparison: string,
  back = 0,
): Pick<Alert, 'value' | 'threshold' | 'summary'> {
  const limit = limits[level]! - (rule.direction === 'above' ? back : -back);
  const threshold = Number.isNaN(limit) ? alert.threshold : limit;
  return { value, threshold, summary: levelSummary(rule, subject, value, comparison, threshold) };
}
