import * as v from 'valibot';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { isRecord } from '../files/take-issues.ts';
import type { GroupBy } from './rules.ts';

/** Most annotations, and most added labels, of one rule. */
const MAX_TEXTS = 16;
/** Labels that every alert has, so that no rule may add one of their names. */
const OWN_LABELS: ReadonlySet<string> = new Set([
  ...['rule', 'severity', 'cluster', 'node', 'gpu', 'gpu_uuid', 'gpu_model', 'key'],
]);

export const SEVERITIES = {
  info: Severity.INFO,
  warning: Severity.WARNING,
  critical: Severity.CRITICAL,
} as const;

const GROUPS: readonly GroupBy[] = [
  ...(['node', 'rack', 'pool', 'switch', 'pdu', 'cooling_zone', 'row'] as const),
  ...(['datacenter', 'cluster', 'fleet'] as const),
];

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const DURATION_FAULT = 'must be a duration such as 30s, 1m or 1h';

const severity = v.picklist(['info', 'warning', 'critical'], 'must be info, warning or critical');
export const number = v.pipe(v.number('must be a number'), v.finite('must be a finite number'));
/** Milliseconds. */
export const duration = v.pipe(
  v.string(DURATION_FAULT),
  v.regex(DURATION, DURATION_FAULT),
  v.transform(toMs),
);
/** Over what a counter's growth is taken, ms. */
export const windowLength = v.pipe(
  duration,
  v.minValue(10_000, 'must be 10s to 7d'),
  v.maxValue(7 * 86_400_000, 'must be 10s to 7d'),
);
const ruleName = v.pipe(
  v.string('must be a name'),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and -'),
);
export const metric = v.pipe(
  v.string('must be the name of a metric'),
  v.regex(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/, 'must be the name of a metric'),
);
const labelName = v.pipe(v.string(), v.regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,62}$/, 'must be the name of a label'));
const labelValue = v.pipe(v.union([v.string(), v.number()], 'must be a text'), v.transform(String));
export const labels = v.optional(mapOf(labelName, labelValue, 'must be labels with their values'), {});

const text = v.pipe(v.string('must be a text'), v.maxLength(200, 'must be at most 200 characters'));
const fewTexts = v.check<Record<string, string>, string>(
  (texts) => Object.keys(texts).length <= MAX_TEXTS,
  `must be at most ${MAX_TEXTS}`,
);
/** Of every rule. */
const common = {
  name: ruleName,
  enabled: v.optional(v.boolean('must be true or false'), true),
  summary: v.optional(text),
  annotations: v.optional(
    v.pipe(
      mapOf(
        labelName,
        v.pipe(v.string('must be a text'), v.maxLength(1000, 'must be at most 1000 characters')),
        'must be names with their texts',
      ),
      fewTexts,
    ),
    {},
  ),
  runbook: v.optional(
    v.pipe(
      v.string('must be an http or https address'),
      v.maxLength(1000, 'must be at most 1000 characters'),
      v.regex(/^https?:\/\/[^\s]+$/, 'must be an http or https address'),
    ),
  ),
  add_labels: v.optional(
    v.pipe(
      mapOf(
        v.pipe(
          labelName,
          v.check((name) => !OWN_LABELS.has(name), 'is a label that every alert has'),
        ),
        v.pipe(labelValue, v.maxLength(200, 'must be at most 200 characters')),
        'must be labels with their values',
      ),
      fewTexts,
    ),
    {},
  ),
};

const level = v.strictObject(
  {
    severity,
    above: v.optional(v.unknown()),
    below: v.optional(v.unknown()),
    for: v.optional(duration),
  },
  fault,
);

/** Of every rule whose value is compared with levels. */
const levelled = {
  ...common,
  severities: v.pipe(
    v.array(level, 'must be a list of severities'),
    v.minLength(1, 'must have at least one severity'),
    v.maxLength(3, 'must have at most three severities'),
  ),
  for: v.optional(duration, '0s'),
  keep_firing_for: v.optional(duration, '0s'),
};
const clear = v.optional(v.pipe(number, v.minValue(0, 'must not be negative')), 0);

export const thresholdSchema = v.strictObject(
  {
    ...levelled,
    metric: v.optional(metric),
    labels,
    value: v.optional(v.unknown()),
    increase: v.optional(v.unknown()),
    rate: v.optional(v.unknown()),
    clear,
  },
  fault,
);

/** Another series of the same GPU as a limit. */
export const relativeSchema = v.strictObject({ metric, labels, times: v.optional(number, 1) }, fault);

export const operandSchema = v.strictObject(
  {
    metric,
    labels,
    over: v.optional(metric),
    over_labels: labels,
    increase: v.optional(v.unknown()),
    rate: v.optional(v.unknown()),
  },
  fault,
);

export const absentSchema = v.strictObject({ ...levelled, absent: metric, labels }, fault);

export const aggregateSchema = v.strictObject({ ...levelled, aggregate: v.unknown(), clear }, fault);

export const groupSchema = v.strictObject(
  {
    by: v.picklist(GROUPS, `must be one of ${GROUPS.join(', ')}`),
    count_of: v.optional(ruleName),
    share_of: v.optional(ruleName),
    avg: v.optional(metric),
    min: v.optional(metric),
    max: v.optional(metric),
    sum: v.optional(metric),
    labels: v.optional(v.unknown()),
  },
  fault,
);

export const code = v.pipe(
  v.number('must be a code'),
  v.integer('must be a code'),
  v.minValue(0, 'must be a code'),
);

const eventType = v.pipe(
  v.string('must be the type of an event'),
  v.regex(/^[a-z][a-z0-9_]{0,62}$/, 'must be the type of an event'),
);

export const eventSchema = v.strictObject(
  {
    ...common,
    event: eventType,
    codes: v.optional(v.unknown()),
    key: v.optional(
      v.pipe(v.string('must be an attribute of the event'), v.nonEmpty('must be an attribute of the event')),
    ),
    severity: v.optional(severity, 'critical'),
    where: v.optional(labels, {}),
    until: v.optional(labels),
    until_event: v.optional(eventType),
    expires: v.optional(duration, '1h'),
  },
  fault,
);

export const fileSchema = v.strictObject({ rules: v.array(v.unknown(), 'must be a list') }, fault);

/** Names with their values. A list is no such thing, though an array is an object. */
function mapOf<K extends v.GenericSchema<string, string>, V extends v.GenericSchema>(
  key: K,
  value: V,
  message: string,
) {
  return v.pipe(v.custom<Record<string, unknown>>(isRecord, message), v.record(key, value, message));
}

/** Words for what a strict object finds: a setting that it does not know, one that is missing, or no object. */
function fault(issue: v.StrictObjectIssue): string {
  if (issue.expected === 'never') return 'is not a setting of a rule';
  return issue.path === undefined ? 'must be settings with their values' : 'is missing';
}

function toMs(duration: string): number {
  const [, size, unit] = DURATION.exec(duration)!;
  return Number(size) * DURATION_MS[unit!]!;
}
