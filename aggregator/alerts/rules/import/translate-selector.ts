import { dcgmField } from '#shared/catalogue/dcgm.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { type SelectorExpression, Unreadable } from './promql.ts';

/** The series that a selector of Prometheus means, in canonical names. */
export interface Subject {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  /** A value of theirs times this is one of ours. */
  readonly factor: number;
  /** What a reader of the translated rule should know. */
  readonly notes: readonly string[];
}

/** Labels of dcgm-exporter and of community exporters for what every series of ours carries. */
const OURS: Readonly<Record<string, string>> = { UUID: 'uuid', modelName: 'model', GPU_I_ID: 'mig_id' };
/** Which scrape a series came from: a rule of the stream looks at whatever agent brings it. */
const OF_SCRAPE = new Set(['job', 'endpoint', 'service']);
/** A rule runs on all nodes, and a job's labels are not on series. */
const ELSEWHERE = new Set(['instance', 'Hostname', 'node', 'cluster', 'namespace', 'pod', 'container']);

/** Throws Unreadable. */
export function translateSelector(
  { metric, matchers, rangeMs }: SelectorExpression,
  range: boolean,
): Subject {
  if (rangeMs === undefined && range) throw new Unreadable(`${metric} has no range`);
  if (rangeMs !== undefined && !range) throw new Unreadable(`a range of ${metric} needs history`);
  if (metric.includes(':')) throw new Unreadable(`${metric} is made by a recording rule`);
  if (metric === 'ALERTS') throw new Unreadable('ALERTS is of Prometheus; use count_of or share_of');
  const field = dcgmField(metric);
  if (field === undefined && /^DCGM_/.test(metric))
    throw new Unreadable(`${metric} is not a field that is known`);
  const notes: string[] = [];
  const labels: Record<string, string> = field === undefined ? {} : Object.fromEntries(field.labels);
  for (const { label, operator, value } of matchers) {
    if (OF_SCRAPE.has(label)) {
      notes.push(`${label}${operator}"${value}" is left out: the rule looks at every source`);
      continue;
    }
    if (operator !== '=') throw new Unreadable(`${label}${operator}"${value}": labels can only be equal`);
    if (value === '') throw new Unreadable(`${label}="": a label that is missing cannot be asked for`);
    if (ELSEWHERE.has(label)) throw new Unreadable(`label ${label} is not one of the series`);
    labels[field?.labelsFrom.get(label) ?? OURS[label] ?? label] = value;
  }
  if (field !== undefined) {
    return { metric: field.metric.name, labels, factor: field.multiply / field.divide, notes };
  }
  if (metricNamed(metric) === undefined)
    notes.push(`${metric} is not in the catalogue: it matches only series that pass through`);
  return { metric, labels, factor: 1, notes };
}
