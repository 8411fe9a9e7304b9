import * as v from 'valibot';
import { parseDocument } from 'yaml';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { EventRule, Level, Limit, Operand, Rule, RuleSet, ThresholdRule } from './rules.ts';

/** Rule names are label values of counters and tokens of subjects: so they are few. */
const MAX_RULES = 500;
/** A rules file larger than this is not one. */
const MAX_RULES_BYTES = 1024 * 1024;

const SEVERITIES = { info: Severity.INFO, warning: Severity.WARNING, critical: Severity.CRITICAL } as const;
const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

const severity = v.picklist(['info', 'warning', 'critical'], 'must be info, warning or critical');
const number = v.pipe(v.number('must be a number'), v.finite('must be a finite number'));
const duration = v.pipe(
  v.string('must be a duration such as 30s, 1m or 1h'),
  v.regex(DURATION, 'must be a duration such as 30s, 1m or 1h'),
  v.transform(toMs),
);
const name = v.pipe(
  v.string('must be a name'),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and -'),
);
const metric = v.pipe(
  v.string('must be the name of a metric'),
  v.regex(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/, 'must be the name of a metric'),
);
const labels = v.optional(
  v.record(
    v.pipe(v.string(), v.regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, 'must be the name of a label')),
    v.pipe(v.union([v.string(), v.number()], 'must be a text'), v.transform(String)),
    'must be labels with their values',
  ),
  {},
);
const summary = v.optional(
  v.pipe(v.string('must be a text'), v.maxLength(200, 'must be at most 200 characters')),
);
const enabled = v.optional(v.boolean('must be true or false'), true);

const relative = v.strictObject({ metric, labels, times: v.optional(number, 1) }, fault);
const operand = v.strictObject({ metric, labels, over: v.optional(metric), over_labels: labels }, fault);

const level = v.strictObject(
  {
    severity,
    above: v.optional(v.unknown()),
    below: v.optional(v.unknown()),
    for: v.optional(duration),
  },
  fault,
);

const threshold = v.strictObject(
  {
    name,
    enabled,
    summary,
    metric: v.optional(metric),
    labels,
    value: v.optional(v.unknown()),
    severities: v.pipe(
      v.array(level, 'must be a list of severities'),
      v.minLength(1, 'must have at least one severity'),
      v.maxLength(3, 'must have at most three severities'),
    ),
    for: v.optional(duration, '0s'),
    clear: v.optional(v.pipe(number, v.minValue(0, 'must not be negative')), 0),
  },
  fault,
);

const code = v.pipe(v.number('must be a code'), v.integer('must be a code'), v.minValue(0, 'must be a code'));
const event = v.strictObject(
  {
    name,
    enabled,
    summary,
    event: v.pipe(
      v.string('must be the type of an event'),
      v.regex(/^[a-z][a-z0-9_]{0,62}$/, 'must be the type of an event'),
    ),
    codes: v.optional(v.unknown()),
    key: v.optional(
      v.pipe(v.string('must be an attribute of the event'), v.nonEmpty('must be an attribute of the event')),
    ),
    severity: v.optional(severity, 'critical'),
    where: v.optional(labels, {}),
    until: v.optional(labels),
    expires: v.optional(duration, '1h'),
  },
  fault,
);

/**
 * Reads a rules file. Throws `invalid_config` with every fault and its path, such as
 * `rules[2].severities[0].above: must be a number`.
 */
export function parseRules(text: string, source: string): RuleSet {
  const faults: string[] = [];
  const rules = readRules(text, faults);
  if (faults.length > 0) {
    throw new FleetError('invalid_config', `Cannot read alert rules ${source}:\n  ${faults.join('\n  ')}`);
  }
  return {
    rules: rules.filter((one) => one.enabled).map((one) => one.rule),
    disabled: rules.filter((one) => !one.enabled).map((one) => one.rule.name),
    warnings: rules.filter((one) => one.enabled).flatMap((one) => unknownMetrics(one.rule)),
  };
}

interface Entry {
  readonly rule: Rule;
  readonly enabled: boolean;
}

function readRules(text: string, faults: string[]): Entry[] {
  if (Buffer.byteLength(text) > MAX_RULES_BYTES) {
    faults.push(`is larger than ${MAX_RULES_BYTES} bytes`);
    return [];
  }
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) {
    for (const error of document.errors) faults.push(error.message.split('\n')[0]!);
    return [];
  }
  const outer = v.safeParse(
    v.strictObject({ rules: v.array(v.unknown(), 'must be a list') }, fault),
    document.toJS({ maxAliasCount: 100 }) ?? {},
  );
  if (!outer.success) {
    collect(outer.issues, '', faults);
    return [];
  }
  if (outer.output.rules.length > MAX_RULES) faults.push(`rules: must be at most ${MAX_RULES}`);
  const entries: Entry[] = [];
  const names = new Set<string>();
  for (const [index, raw] of outer.output.rules.slice(0, MAX_RULES).entries()) {
    const at = `rules[${index}]`;
    const entry =
      isRecord(raw) && 'event' in raw ? readEvent(raw, at, faults) : readThreshold(raw, at, faults);
    if (entry === undefined) continue;
    if (names.has(entry.rule.name)) faults.push(`${at}.name: "${entry.rule.name}" is there twice`);
    names.add(entry.rule.name);
    entries.push(entry);
  }
  return entries;
}

function readThreshold(raw: unknown, at: string, faults: string[]): Entry | undefined {
  const before = faults.length;
  const parsed = v.safeParse(threshold, raw);
  if (!parsed.success) collect(parsed.issues, at, faults);
  // The parts of several shapes are read by hand, so that their faults are named as exactly as the rest and at
  // the same time, also where another part of the rule is wrong.
  const record = isRecord(raw) ? raw : {};
  const values = readValues(record, at, faults);
  const directions = new Set<'above' | 'below'>();
  const limits: Limit[] = [];
  for (const [index, one] of (Array.isArray(record.severities) ? record.severities : []).entries()) {
    const path = `${at}.severities[${index}]`;
    if (!isRecord(one)) continue;
    if ('above' in one === 'below' in one) {
      faults.push(`${path}: must have either above or below`);
      continue;
    }
    const direction = 'above' in one ? 'above' : 'below';
    directions.add(direction);
    limits.push(readLimit(one[direction], `${path}.${direction}`, faults));
  }
  if (directions.size > 1) faults.push(`${at}.severities: must be all above or all below`);
  if (!parsed.success || faults.length > before) return undefined;
  const rule = parsed.output;
  const direction = [...directions][0]!;
  const levels: Level[] = rule.severities
    .map((one, index) => ({
      severity: SEVERITIES[one.severity],
      limit: limits[index]!,
      forMs: one.for ?? rule.for,
    }))
    .sort((a, b) => a.severity - b.severity);
  checkLevels(levels, direction, at, faults);
  const made: ThresholdRule = {
    kind: 'threshold',
    name: rule.name,
    summary: rule.summary ?? values[0]!.metric,
    values,
    direction,
    clear: rule.clear,
    levels,
  };
  return { rule: made, enabled: rule.enabled };
}

function readEvent(raw: unknown, at: string, faults: string[]): Entry | undefined {
  const before = faults.length;
  const parsed = v.safeParse(event, raw);
  if (!parsed.success) collect(parsed.issues, at, faults);
  const codes = readCodes(isRecord(raw) ? raw.codes : undefined, at, faults);
  if (!parsed.success || faults.length > before) return undefined;
  const rule = parsed.output;
  if (codes !== 'any' && rule.event !== 'xid') faults.push(`${at}.codes: is only for the event xid`);
  const made: EventRule = {
    kind: 'event',
    name: rule.name,
    summary: rule.summary ?? rule.event,
    event: rule.event,
    codes,
    key: rule.key,
    severity: SEVERITIES[rule.severity],
    where: rule.where,
    until: rule.until,
    expiresMs: rule.expires,
  };
  return { rule: made, enabled: rule.enabled };
}

function readValues(raw: Record<string, unknown>, at: string, faults: string[]): Operand[] {
  if ('metric' in raw === 'value' in raw) {
    faults.push(`${at}: must have either metric or value`);
    return [];
  }
  if ('metric' in raw) {
    const parsed = v.safeParse(v.object({ metric, labels }), raw);
    return parsed.success ? [parsed.output] : [];
  }
  if ('labels' in raw) faults.push(`${at}.labels: belongs into value`);
  const list = Array.isArray(raw.value) ? raw.value : [raw.value];
  if (list.length === 0) faults.push(`${at}.value: must not be empty`);
  return list.flatMap((one, index) => {
    const path = Array.isArray(raw.value) ? `${at}.value[${index}]` : `${at}.value`;
    const parsed = v.safeParse(operand, one);
    if (!parsed.success) {
      collect(parsed.issues, path, faults);
      return [];
    }
    const { over, over_labels: overLabels, ...series } = parsed.output;
    return [over === undefined ? series : { ...series, over: { metric: over, labels: overLabels } }];
  });
}

function readLimit(raw: unknown, path: string, faults: string[]): Limit {
  const parsed = isRecord(raw) ? v.safeParse(relative, raw) : v.safeParse(number, raw);
  if (parsed.success) return parsed.output;
  collect(parsed.issues, path, faults);
  return Number.NaN;
}

function readCodes(raw: unknown, at: string, faults: string[]): EventRule['codes'] {
  if (raw === undefined) return 'any';
  if (raw === 'critical' || raw === 'any') return raw;
  if (!Array.isArray(raw)) {
    faults.push(`${at}.codes: must be critical, any or a list of codes`);
    return 'any';
  }
  const parsed = v.safeParse(v.array(code), raw);
  if (parsed.success) return new Set(parsed.output);
  collect(parsed.issues, `${at}.codes`, faults);
  return 'any';
}

/** A higher severity must be harder to reach, or the lower could never show. */
function checkLevels(
  levels: readonly Level[],
  direction: 'above' | 'below',
  at: string,
  faults: string[],
): void {
  for (let i = 1; i < levels.length; i++) {
    const lower = levels[i - 1]!;
    const higher = levels[i]!;
    if (lower.severity === higher.severity) faults.push(`${at}.severities: a severity is there twice`);
    if (typeof lower.limit !== 'number' || typeof higher.limit !== 'number') continue;
    const ordered = direction === 'above' ? higher.limit > lower.limit : higher.limit < lower.limit;
    if (!ordered) faults.push(`${at}.severities: a higher severity must lie further ${direction}`);
  }
}

function unknownMetrics(rule: Rule): string[] {
  if (rule.kind === 'event') return [];
  const names = new Set<string>();
  for (const value of rule.values) {
    names.add(value.metric);
    if (value.over) names.add(value.over.metric);
  }
  for (const { limit } of rule.levels) if (typeof limit !== 'number') names.add(limit.metric);
  return [...names]
    .filter((one) => metricNamed(one) === undefined)
    .map(
      (one) => `rule ${rule.name}: ${one} is not in the catalogue, it matches only series that pass through`,
    );
}

function collect(issues: readonly v.BaseIssue<unknown>[], at: string, faults: string[]): void {
  for (const issue of issues) {
    let path = at;
    for (const item of issue.path ?? []) {
      path += typeof item.key === 'number' ? `[${item.key}]` : `${path === '' ? '' : '.'}${String(item.key)}`;
    }
    faults.push(path === '' ? issue.message : `${path}: ${issue.message}`);
  }
}

/** Words for what a strict object finds: a setting that it does not know, one that is missing, or no object. */
function fault(issue: v.StrictObjectIssue): string {
  if (issue.expected === 'never') return 'is not a setting of a rule';
  return issue.path === undefined ? 'must be settings with their values' : 'is missing';
}

function toMs(text: string): number {
  const [, amount, unit] = DURATION.exec(text)!;
  return Number(amount) * DURATION_MS[unit!]!;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
