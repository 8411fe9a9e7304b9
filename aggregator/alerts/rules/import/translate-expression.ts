import { metricNamed } from '#shared/catalogue/metrics.ts';
import { type AggregateExpression, type BinaryExpression, type Expression, Unreadable } from './promql.ts';
import { type Subject, translateSelector } from './translate-selector.ts';

/** What an expression becomes: settings of a rule, without its name and texts. */
export interface Translated {
  /** `metric` and `labels`, `value`, `absent`, `event` and `codes`, or `aggregate`. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** `above` or `below` and its limit; undefined for an event. */
  readonly limit: Readonly<Record<string, unknown>> | undefined;
  /** How long the expression itself looks back, to be added to `for`. */
  readonly holdsMs: number;
  /** For `count by (...) (inner > n)`: the inner rule, which `aggregate.count_of` will name. */
  readonly counted: Translated | undefined;
  readonly notes: readonly string[];
}

type Comparison = '>' | '>=' | '<' | '<=' | '==' | '!=';
const FLIPPED: Readonly<Record<string, Comparison>> = {
  '>': '<',
  '>=': '<=',
  '<': '>',
  '<=': '>=',
  '==': '==',
  '!=': '!=',
};
const SETS = new Set(['and', 'or', 'unless']);
const XID = 'gpu_xid_last';
/** Labels that say which node a sample is of, in the exporters that are in use. */
const NODE_LABELS = new Set(['Hostname', 'hostname', 'instance', 'node', 'kubernetes_node']);
const GPU_LABELS = new Set(['gpu', 'UUID', 'uuid', 'gpu_uuid']);
const GROUPS = new Set(['rack', 'pool', 'switch', 'pdu', 'cooling_zone', 'row', 'datacenter', 'cluster']);

/** A value that grows with `core`: times * core + plus. */
interface Linear {
  readonly core: Expression;
  readonly times: number;
  readonly plus: number;
}

/** The rule that an expression is. Throws Unreadable with the reason where it is none that the stream can answer. */
export function translateExpression(expression: Expression): Translated {
  if (expression.kind === 'call' && /^absent(_over_time)?$/.test(expression.name)) return absent(expression);
  if (expression.kind !== 'binary') throw new Unreadable('it compares nothing with a number');
  if (SETS.has(expression.operator))
    throw new Unreadable(`"${expression.operator}" joins series: a rule looks at one, or at a ratio of two`);
  if (FLIPPED[expression.operator] === undefined) throw new Unreadable('it compares nothing with a number');
  const { value, operator, limit } = sides(expression);
  if (value.core.kind === 'aggregate') return aggregate(value.core, value, operator, limit);
  return series(value, operator, limit);
}

function absent(expression: Extract<Expression, { kind: 'call' }>): Translated {
  const [of] = expression.args;
  if (of?.kind !== 'selector') throw new Unreadable(`${expression.name} of more than one series`);
  const over = expression.name === 'absent_over_time';
  const { metric, labels, notes } = translateSelector(of, over);
  return {
    settings: { absent: metric, ...withLabels(labels) },
    limit: undefined,
    holdsMs: over ? of.rangeMs! : 0,
    counted: undefined,
    notes: [...notes, 'one alert for each series that was there and is gone, while its node is connected'],
  };
}

interface Sides {
  readonly value: Linear;
  readonly operator: Comparison;
  readonly limit: Expression;
}

/** The value on the left, what it is compared with on the right. */
function sides({ left, right, operator }: BinaryExpression): Sides {
  if (constantOf(left) !== undefined)
    return { value: linear(right), operator: FLIPPED[operator]!, limit: left };
  return { value: linear(left), operator: operator as Comparison, limit: right };
}

function series(value: Linear, operator: Comparison, right: Expression): Translated {
  const { core } = value;
  if (core.kind === 'call' && /^(min|max)_over_time$/.test(core.name))
    return held(value, core, operator, right);
  const operand = operandOf(core);
  const constant = constantOf(right);
  if (constant === undefined) return relative(value, operand, operator, right);
  const bound = (constant - value.plus) / value.times;
  const scaled = clean(bound * operand.factor);
  const comparison = value.times < 0 ? (FLIPPED[operator] ?? operator) : operator;
  if (operand.metric === XID) return xid(comparison, scaled, operand.notes);
  return {
    settings: operand.settings,
    limit: limitOf(comparison, scaled, operand),
    holdsMs: 0,
    counted: undefined,
    notes: [
      ...operand.notes,
      ...(operand.factor === 1 ? [] : [`the value is in the unit of ${operand.metric}, not of the exporter`]),
    ],
  };
}

/** `min_over_time(x[5m]) > 3` is `x > 3` for five minutes. */
function held(
  value: Linear,
  core: Extract<Expression, { kind: 'call' }>,
  operator: Comparison,
  right: Expression,
) {
  const [of] = core.args;
  if (of?.kind !== 'selector' || of.rangeMs === undefined) throw new Unreadable(`${core.name} needs history`);
  const rising = operator === '>' || operator === '>=';
  const falling = operator === '<' || operator === '<=';
  const wanted = core.name === 'min_over_time' ? rising : falling;
  if (!wanted || value.times < 0) throw new Unreadable(`${core.name} needs history`);
  const inner = series({ ...value, core: { ...of, rangeMs: undefined } }, operator, right);
  return { ...inner, holdsMs: of.rangeMs };
}

interface Operand {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly metric: string;
  readonly factor: number;
  /** Whether its values are whole numbers. */
  readonly whole: boolean;
  readonly notes: readonly string[];
}

function operandOf(core: Expression): Operand {
  if (core.kind === 'selector') {
    const subject = translateSelector(core, false);
    return {
      ...subject,
      settings: { metric: subject.metric, ...withLabels(subject.labels) },
      whole: isWhole(subject.metric),
    };
  }
  if (core.kind === 'call') return windowed(core);
  if (core.kind === 'aggregate') {
    if (core.by.some((label) => GPU_LABELS.has(label)) && core.name !== 'count') return operandOf(core.of);
    throw new Unreadable('an aggregate within a calculation');
  }
  if (core.kind === 'binary' && core.operator === '/') return ratio(core);
  throw new Unreadable('a calculation with more than one series that is no ratio');
}

function windowed({ name, args }: Extract<Expression, { kind: 'call' }>): Operand {
  const [of] = args;
  if (name !== 'rate' && name !== 'increase') throw new Unreadable(`${name} is not of the stream`);
  if (of?.kind !== 'selector' || args.length > 1) throw new Unreadable(`${name} of more than one series`);
  const { metric, labels, factor, notes } = translateSelector(of, true);
  const value = { metric, ...withLabels(labels), [name]: duration(of.rangeMs!) };
  return { settings: { value }, metric, factor, whole: name === 'increase' && isWhole(metric), notes };
}

function ratio({ left, right }: BinaryExpression): Operand {
  const [top, bottom] = [linear(left), linear(right)];
  if (top.core.kind !== 'selector' || bottom.core.kind !== 'selector' || top.plus !== 0 || bottom.plus !== 0)
    throw new Unreadable('a ratio of other things than two series');
  const [over, under] = [translateSelector(top.core, false), translateSelector(bottom.core, false)];
  const value: Record<string, unknown> = {
    metric: over.metric,
    ...withLabels(over.labels),
    over: under.metric,
  };
  if (Object.keys(under.labels).length > 0) value.over_labels = under.labels;
  // What is compared is (top / bottom) * scale; of ours only the fields' own factors are left.
  const factor = (over.factor / under.factor) * (bottom.times / top.times);
  return {
    settings: { value },
    metric: over.metric,
    factor,
    whole: false,
    notes: [...over.notes, ...under.notes],
  };
}

/** `a > b * 0.9`: the limit is a factor of another series of the same GPU. */
function relative(value: Linear, operand: Operand, operator: Comparison, right: Expression): Translated {
  const other = linear(right);
  if (value.plus !== 0 || other.plus !== 0 || other.core.kind !== 'selector')
    throw new Unreadable('it is compared with more than a number or a factor of one series');
  if (operator !== '>' && operator !== '<') throw new Unreadable(`"${operator}" between two series`);
  const { metric, labels, factor, notes } = translateSelector(other.core, false);
  const times = clean((other.times * operand.factor) / (value.times * factor));
  const direction = value.times < 0 ? FLIPPED[operator] : operator;
  const limit = { metric, labels, times };
  return {
    settings: operand.settings,
    limit: direction === '>' ? { above: limit } : { below: limit },
    holdsMs: 0,
    counted: undefined,
    notes: [...operand.notes, ...notes],
  };
}

function aggregate(
  of: AggregateExpression,
  value: Linear,
  operator: Comparison,
  right: Expression,
): Translated {
  if (of.name !== 'count' && of.by.some((label) => GPU_LABELS.has(label)))
    return series({ ...value, core: of.of }, operator, right);
  const constant = constantOf(right);
  if (constant === undefined) throw new Unreadable('an aggregate is compared with more than a number');
  const bound = clean((constant - value.plus) / value.times);
  const comparison = value.times < 0 ? FLIPPED[operator]! : operator;
  const by = groupOf(of.by);
  if (of.name === 'count') {
    const counted = translateExpression(of.of);
    if (counted.limit === undefined) throw new Unreadable('it counts what has no limit');
    return {
      settings: { aggregate: { count_of: '', by } },
      limit: limitOf(comparison, bound, { metric: '', whole: true }),
      holdsMs: 0,
      counted,
      notes: ['the series that are counted have a rule of their own, of severity info'],
    };
  }
  if (of.of.kind !== 'selector') throw new Unreadable(`${of.name} of other things than one series`);
  const { metric, labels, factor, notes } = translateSelector(of.of, false);
  return {
    settings: { aggregate: { [of.name]: metric, ...withLabels(labels), by } },
    limit: limitOf(comparison, clean(bound * factor), { metric: '', whole: false }),
    holdsMs: 0,
    counted: undefined,
    notes,
  };
}

function groupOf(by: readonly string[]): string {
  const [label, ...more] = by;
  if (label === undefined) return 'fleet';
  if (by.every((one) => NODE_LABELS.has(one))) return 'node';
  if (more.length === 0 && GROUPS.has(label)) return label;
  throw new Unreadable(`by (${by.join(', ')}) is no group of the inventory`);
}

/** The exporter's last Xid never goes back: a rule on it becomes one on the event. */
function xid(operator: Comparison, code: number, notes: readonly string[]): Translated {
  const any = (operator === '>' || operator === '!=') && code === 0;
  if (!any && (operator !== '==' || code === 0)) throw new Unreadable('a comparison of Xid numbers by size');
  return {
    settings: { event: 'xid', codes: any ? 'any' : [code], key: 'code' },
    limit: undefined,
    holdsMs: 0,
    counted: undefined,
    notes: [...notes, 'becomes a rule on the event, since the exporter never clears the last Xid'],
  };
}

function limitOf(operator: Comparison, bound: number, { metric, whole }: Pick<Operand, 'metric' | 'whole'>) {
  if (!Number.isFinite(bound)) throw new Unreadable('the limit is no finite number');
  switch (operator) {
    case '>':
      return { above: bound };
    case '<':
      return { below: bound };
    case '>=':
      return { above: whole && Number.isInteger(bound) ? bound - 0.5 : before(bound) };
    case '<=':
      return { below: whole && Number.isInteger(bound) ? bound + 0.5 : -before(-bound) };
  }
  // Equal: only at an end of what the metric can be.
  const { min = Number.NaN, max = Number.NaN } = (whole ? metricNamed(metric) : undefined) ?? {};
  if (bound === min) return operator === '==' ? { below: min + 0.5 } : { above: min + 0.5 };
  if (bound === max) return operator === '==' ? { above: max - 0.5 } : { below: max - 0.5 };
  throw new Unreadable(`"${operator} ${bound}" is neither above nor below`);
}

/** Peels off what is added and multiplied. */
function linear(of: Expression): Linear {
  if (of.kind !== 'binary') return { core: of, times: 1, plus: 0 };
  const [left, right] = [constantOf(of.left), constantOf(of.right)];
  const [inner, number] = right === undefined ? [of.right, left] : [of.left, right];
  if (number === undefined) return { core: of, times: 1, plus: 0 };
  const { core, times, plus } = linear(inner);
  const first = right === undefined;
  switch (of.operator) {
    case '*':
      return { core, times: times * number, plus: plus * number };
    case '/':
      if (first) throw new Unreadable('a number divided by a series');
      return { core, times: times / number, plus: plus / number };
    case '+':
      return { core, times, plus: plus + number };
    case '-':
      return first ? { core, times: -times, plus: number - plus } : { core, times, plus: plus - number };
  }
  throw new Unreadable(`"${of.operator}" is not of the stream`);
}

function constantOf(of: Expression): number | undefined {
  if (of.kind === 'number') return of.value;
  if (of.kind !== 'binary') return undefined;
  const [left, right] = [constantOf(of.left), constantOf(of.right)];
  if (left === undefined || right === undefined) return undefined;
  switch (of.operator) {
    case '+':
      return left + right;
    case '-':
      return left - right;
    case '*':
      return left * right;
    case '/':
      return left / right;
  }
  return undefined;
}

/** Without what calculating in binary left behind: 95 * 0.01 is 0.95. */
function clean(value: number): number {
  return Number(value.toPrecision(12));
}

/** The greatest number below, to twelve digits: `>= 90` is `> 89.9999999999`. */
function before(value: number): number {
  return value === 0 ? -1e-12 : clean(value - Math.abs(value) * 1e-11);
}

function isWhole(metric: string): boolean {
  const known = metricNamed(metric);
  return known !== undefined && known.decimals <= 0;
}

function withLabels(labels: Subject['labels']): { labels?: Subject['labels'] } {
  return Object.keys(labels).length > 0 ? { labels } : {};
}

/** As rules files have it: one unit. */
export function duration(ms: number): string {
  for (const [unit, size] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const)
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  return ms === 0 ? '0s' : `${ms}ms`;
}
