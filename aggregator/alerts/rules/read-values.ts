import * as v from 'valibot';
import { isRecord, takeIssues } from '../files/take-issues.ts';
import type { Path, YamlFaults } from '../files/yaml-faults.ts';
import { groupSchema, labels, metric, operandSchema, windowLength } from './rule-schema.ts';
import type { AggregateRule, Operand } from './rules.ts';

const WINDOWS = ['increase', 'rate'] as const;
const METRIC_FUNCTIONS = ['avg', 'min', 'max', 'sum'] as const;
const FUNCTIONS = ['count_of', 'share_of', ...METRIC_FUNCTIONS] as const;

/** What a threshold rule looks at: its `metric`, or what `value` lists. */
export function readOperands(rule: Record<string, unknown>, at: Path, faults: YamlFaults): Operand[] {
  if ('metric' in rule === 'value' in rule) {
    faults.add(at, 'must have either metric or value');
    return [];
  }
  if ('metric' in rule) {
    const window = readWindow(rule, at, faults);
    const parsed = v.safeParse(v.object({ metric, labels }), rule);
    return parsed.success ? [{ ...parsed.output, ...window }] : [];
  }
  for (const name of ['labels', ...WINDOWS]) {
    if (name in rule) faults.add([...at, name], 'belongs into value', { key: true });
  }
  const list = Array.isArray(rule.value) ? rule.value : [rule.value];
  if (list.length === 0) faults.add([...at, 'value'], 'must not be empty');
  return list.flatMap((one, index) => {
    return readOperand(one, Array.isArray(rule.value) ? [...at, 'value', index] : [...at, 'value'], faults);
  });
}

function readOperand(raw: unknown, at: Path, faults: YamlFaults): Operand[] {
  const parsed = v.safeParse(operandSchema, raw);
  if (!parsed.success) {
    takeIssues(parsed.issues, at, faults);
    return [];
  }
  const one = parsed.output;
  const window = readWindow(one, at, faults);
  const series = { metric: one.metric, labels: one.labels, ...window };
  if (one.over === undefined) return [series];
  if (window.window !== undefined)
    faults.add([...at, 'over'], 'must not stand beside increase or rate', { key: true });
  return [{ ...series, over: { metric: one.over, labels: one.over_labels } }];
}

function readWindow(raw: Record<string, unknown>, at: Path, faults: YamlFaults): Pick<Operand, 'window'> {
  const [fn, second] = WINDOWS.filter((name) => raw[name] !== undefined);
  if (fn === undefined) return {};
  if (second !== undefined) faults.add([...at, second], 'must not stand beside increase', { key: true });
  const parsed = v.safeParse(windowLength, raw[fn]);
  if (parsed.success) return { window: { fn, ms: parsed.output } };
  takeIssues(parsed.issues, [...at, fn], faults);
  return {};
}

/** What an aggregate rule takes together, and of which groups. */
export function readGroup(
  raw: unknown,
  at: Path,
  faults: YamlFaults,
): Pick<AggregateRule, 'of' | 'by'> | undefined {
  const before = faults.count;
  const parsed = v.safeParse(groupSchema, raw);
  if (!parsed.success) takeIssues(parsed.issues, at, faults);
  if (!isRecord(raw)) return undefined;
  const given = FUNCTIONS.filter((fn) => fn in raw);
  const [fn] = given;
  if (fn === undefined || given.length > 1) {
    faults.add(at, `must have exactly one of ${FUNCTIONS.join(', ')}`);
    return undefined;
  }
  const counts = fn === 'count_of' || fn === 'share_of';
  if (counts && 'labels' in raw) {
    faults.add([...at, 'labels'], 'is only for the aggregate of a metric', { key: true });
  }
  const match = v.safeParse(labels, raw.labels);
  if (!match.success && !counts) takeIssues(match.issues, [...at, 'labels'], faults);
  if (!parsed.success || !match.success || faults.count > before) return undefined;
  const named = parsed.output[fn]!;
  const of = counts ? { fn, rule: named } : { fn, metric: named, labels: match.output };
  return { of, by: parsed.output.by };
}
