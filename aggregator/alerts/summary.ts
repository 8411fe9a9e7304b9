import { type Alert, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { amount, duration, percent } from './figures.ts';
import type { AggregateRule, LevelledRule, Operand, Rule, ThresholdRule } from './rules/rules.ts';
import type { Subject } from './subject.ts';

/** Longest summary in characters. */
const MAX_SUMMARY = 1000;

const UNITS: Readonly<Record<string, string>> = {
  Cel: ' °C',
  W: ' W',
  Hz: ' Hz',
  By: ' bytes',
  s: ' s',
  V: ' V',
};

/** What a levelled alert says; `comparison` is such as `above` or `no longer above`. */
export function levelSummary(
  rule: LevelledRule,
  subject: Subject,
  value: number,
  comparison: string,
  limit: number,
): string {
  switch (rule.kind) {
    case 'threshold':
      return thresholdSummary(rule, subject, value, comparison, limit);
    case 'absent':
      return absentSummary(rule, subject, value, comparison, limit);
    case 'aggregate':
      return aggregateSummary(rule, subject, value, comparison, limit);
  }
}

export function eventSummary(rule: Rule, event: FleetEvent, node: string, known: string): string {
  const what = known === '' ? rule.summary : `${rule.summary} ${known}`;
  const text = event.text === '' ? '' : `: ${event.text}`;
  return cut(`${what} on ${place({ gpu: event.gpu, node })}${text}`);
}

/** The summary with what became of the alert in front of it. */
export function withReason(reason: string, summary: string): string {
  return cut(`${reason}: ${summary}`);
}

export function withComment(summary: string, comment: string): string {
  return withReason(
    comment === '' ? 'Resolved by an operator' : `Resolved by an operator (${comment})`,
    summary,
  );
}

/** For label values and headers. */
export function severityName(severity: Severity): 'info' | 'warning' | 'critical' | 'none' {
  switch (severity) {
    case Severity.INFO:
      return 'info';
    case Severity.WARNING:
      return 'warning';
    case Severity.CRITICAL:
      return 'critical';
    default:
      return 'none';
  }
}

function thresholdSummary(
  rule: ThresholdRule,
  subject: Subject,
  value: number,
  comparison: string,
  limit: number,
): string {
  const window = windowOf(rule);
  const suffix = `${UNITS[subject.unit] ?? ''}${window?.fn === 'rate' ? '/s' : ''}`;
  const verb = window?.fn === 'increase' ? 'grew by' : 'is';
  const within = window === undefined ? '' : ` within ${duration(window.ms / 1000)}`;
  return cut(
    `${rule.summary}${keyOf(subject)} ${verb} ${amount(value)}${suffix}${within}, ${comparison} ${amount(limit)}${suffix}, on ${place(subject)}`,
  );
}

function absentSummary(
  rule: LevelledRule,
  subject: Subject,
  seconds: number,
  comparison: string,
  limit: number,
): string {
  const said =
    comparison === rule.direction
      ? `was last seen ${duration(seconds)} ago, ${comparison} ${duration(limit)},`
      : 'is there again';
  return cut(`${rule.summary}${keyOf(subject)} ${said} on ${place(subject)}`);
}

function aggregateSummary(
  rule: AggregateRule,
  subject: Subject,
  value: number,
  comparison: string,
  limit: number,
): string {
  const group = rule.by === 'fleet' ? 'fleet' : `${rule.by.replace('_', ' ')} ${groupName(rule, subject)}`;
  const { fn } = rule.of;
  const unit = subject.unit;
  let figures: string;
  if (fn === 'share_of') {
    const of = unit === '' ? '' : ` of ${unit}`;
    figures = `${percent(value)}${of}, ${comparison} ${percent(limit)}`;
  } else if (fn === 'count_of') {
    figures = `${amount(value)}${unit === '' ? '' : ` ${unit}`}, ${comparison} ${amount(limit)}`;
  } else {
    const suffix = UNITS[unit] ?? '';
    figures = `${amount(value)}${suffix}, ${comparison} ${amount(limit)}${suffix}`;
  }
  return cut(`${group}: ${rule.summary}: ${figures}`);
}

function groupName(rule: AggregateRule, subject: Subject): string {
  const named = subject.labels[rule.by];
  if (named !== undefined) return named;
  if (rule.by === 'node') return subject.node;
  return rule.by === 'cluster' ? subject.cluster : subject.key;
}

/** Of the first value: a rule whose values differ in this says it by the first. */
function windowOf(rule: ThresholdRule): Operand['window'] {
  return rule.values[0]?.window;
}

function keyOf({ key }: Pick<Alert, 'key'>): string {
  return key === '' ? '' : ` (${key})`;
}

function place(alert: { gpu: string; node: string }): string {
  return alert.gpu === '' ? alert.node : `GPU ${alert.gpu} of ${alert.node}`;
}

function cut(text: string): string {
  return text.length <= MAX_SUMMARY ? text : `${text.slice(0, MAX_SUMMARY - 1)}…`;
}
