import { type Alert, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Rule } from './rules/rules.ts';

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

export function thresholdSummary(
  rule: Rule,
  alert: Pick<Alert, 'gpu' | 'node' | 'key'>,
  value: number,
  comparison: string,
  limit: number,
  unit: string,
): string {
  const of = alert.key === '' ? '' : ` (${alert.key})`;
  const suffix = UNITS[unit] ?? '';
  return cut(
    `${rule.summary}${of} is ${amount(value)}${suffix}, ${comparison} ${amount(limit)}${suffix}, on ${place(alert)}`,
  );
}

export function eventSummary(rule: Rule, event: FleetEvent, node: string, known: string): string {
  const what = known === '' ? rule.summary : `${rule.summary} ${known}`;
  const text = event.text === '' ? '' : `: ${event.text}`;
  return cut(`${what} on ${place({ gpu: event.gpu, node })}${text}`);
}

export function withComment(summary: string, comment: string): string {
  return cut(
    comment === ''
      ? `Resolved by an operator: ${summary}`
      : `Resolved by an operator (${comment}): ${summary}`,
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

function place(alert: { gpu: string; node: string }): string {
  return alert.gpu === '' ? alert.node : `GPU ${alert.gpu} of ${alert.node}`;
}

function amount(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

function cut(text: string): string {
  return text.length <= MAX_SUMMARY ? text : `${text.slice(0, MAX_SUMMARY - 1)}…`;
}
