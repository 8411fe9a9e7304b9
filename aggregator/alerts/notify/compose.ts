import { createHash } from 'node:crypto';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { render, type Template } from '../rules/annotations.ts';
import { severityName } from '../summary.ts';
import type { Plan } from './alert-group.ts';
import { MAX_NOTIFIED_ALERTS, type Notification } from './notification.ts';
import { STORM_KEY } from './storm-key.ts';

/** As the contract of notifications has them. */
const MAX_TITLE = 200;
const MAX_TEXT = 4_000;
/** Alerts and groups named in a text for people; more nobody reads. */
const MAX_LINES = 12;

/** The names that a file's templates know beside those of the worst alert. */
export const COUNT_NAMES = ['firing_count', 'resolved_count', 'groups', 'flaps', 'kind', 'status', 'group'];

export interface ComposeOptions {
  readonly link: string;
  readonly title: Template | undefined;
  readonly text: Template | undefined;
}

export interface Occasion {
  readonly id: string;
  readonly endpoint: string;
  readonly nowMs: number;
  /** Alerts told as part of a storm still fire in groups that are not in this notification. */
  readonly stormGoesOn: boolean;
}

/** One notification about one group, or about many at once. */
export function compose(plans: readonly Plan[], occasion: Occasion, options: ComposeOptions): Notification {
  const storm = plans.length !== 1 || plans[0]!.group.identity.key === STORM_KEY;
  const firing = plans.flatMap((plan) =>
    plan.firing.length > MAX_FLAT ? worst(plan.firing, plan.fresh) : plan.firing,
  );
  const ended = plans.flatMap((plan) => plan.ended);
  const fresh = new Set(storm ? [] : plans[0]!.fresh);
  const shown = worst(firing, fresh);
  const resolved = worst(ended, fresh);
  const firingCount = plans.reduce((sum, plan) => sum + plan.firing.length, 0);
  const resolvedCount = plans.reduce((sum, plan) => sum + plan.ended.length + plan.gone, 0);
  const identity = storm ? undefined : plans[0]!.group.identity;
  const draft: Notification = {
    id: occasion.id,
    groupKey: groupKeyOf(occasion.endpoint, identity?.key ?? 'storm'),
    groupLabels: identity?.labels ?? {},
    cluster: identity?.cluster || commonCluster([...shown, ...resolved]),
    status: firingCount > 0 || (storm && occasion.stormGoesOn) ? 'firing' : 'resolved',
    severity: nameOf(worstSeverity(shown.length > 0 ? shown : resolved)),
    kind: storm ? 'storm' : plans[0]!.kind === 'reminder' ? 'reminder' : 'news',
    ...{ firing: shown, resolved, firingCount, resolvedCount },
    flaps: plans.reduce((most, plan) => Math.max(most, plan.flaps), 0),
    ...{ title: '', text: '' },
    link: options.link,
    atMs: newest([...shown, ...resolved], occasion.nowMs),
  };
  return { ...draft, ...wordsOf(draft, plans, options) };
}

/** Groups with more alerts than this are cut to their worst before they are joined with others. */
const MAX_FLAT = 1_000;

function groupKeyOf(endpoint: string, key: string): string {
  return createHash('sha256').update(`${endpoint}\n${key}`).digest('hex').slice(0, 32);
}

/** Worst first, then what is new to the receiver, then newest; at most as many as a notification holds. */
function worst(alerts: readonly Alert[], fresh: ReadonlySet<string>): Alert[] {
  const first: Ranked[] = [];
  for (const alert of alerts) {
    const ranked: Ranked = { alert, fresh: fresh.has(alert.id) ? 1 : 0, atMs: updatedMs(alert) };
    const full = first.length >= MAX_NOTIFIED_ALERTS;
    if (full && compareRanked(ranked, first.at(-1)!) >= 0) continue;
    const at = first.findIndex((other) => compareRanked(ranked, other) < 0);
    first.splice(at < 0 ? first.length : at, 0, ranked);
    if (full) first.pop();
  }
  return first.map(({ alert }) => alert);
}

interface Ranked {
  readonly alert: Alert;
  readonly fresh: number;
  readonly atMs: number;
}

function compareRanked(a: Ranked, b: Ranked): number {
  return b.alert.severity - a.alert.severity || b.fresh - a.fresh || b.atMs - a.atMs;
}

function wordsOf(
  draft: Notification,
  plans: readonly Plan[],
  options: ComposeOptions,
): Pick<Notification, 'title' | 'text'> {
  const first = draft.firing[0] ?? draft.resolved[0];
  const plain = { title: titleOf(draft, plans), text: textOf(draft, plans) };
  if (first === undefined) return { title: cut(plain.title, MAX_TITLE), text: cut(plain.text, MAX_TEXT) };
  const values = {
    ...{ firing_count: draft.firingCount, resolved_count: draft.resolvedCount, groups: plans.length },
    ...{ flaps: draft.flaps, kind: draft.kind, status: draft.status, group: labelWords(draft.groupLabels) },
  };
  const filled = (template: Template | undefined, limit: number): string =>
    template === undefined ? '' : render(template, first, values, limit).trim();
  return {
    title: cut(filled(options.title, MAX_TITLE) || plain.title, MAX_TITLE),
    text: cut(filled(options.text, MAX_TEXT) || plain.text, MAX_TEXT),
  };
}

function titleOf(draft: Notification, plans: readonly Plan[]): string {
  const first = draft.firing[0] ?? draft.resolved[0];
  const counts = [
    draft.firingCount > 0 ? `${draft.firingCount} firing` : '',
    draft.resolvedCount > 0 ? `${draft.resolvedCount} resolved` : '',
  ].filter((text) => text !== '');
  if (draft.kind === 'storm') {
    if (draft.status === 'resolved')
      return `Alert storm over: ${counts.join(', ') || 'nothing fires any more'}`;
    const named = first === undefined ? '' : `; worst: ${first.rule} on ${placeOf(first)}`;
    return `Alert storm: ${counts.join(', ')} in ${plans.length} groups${named}`;
  }
  const state = draft.status === 'firing' ? draft.severity.toUpperCase() : 'RESOLVED';
  const head = draft.kind === 'reminder' ? `${state} (still)` : state;
  if (first === undefined)
    return `${head}: ${labelWords(draft.groupLabels) || 'alerts'}: ${counts.join(', ')}`;
  const flaps = draft.flaps > 0 ? ` (flapping: began ${draft.flaps} times in 30 min)` : '';
  if (draft.firingCount + draft.resolvedCount === 1) return `${head}: ${first.summary || first.rule}${flaps}`;
  return `${head}: ${first.rule} on ${placeOf(first)}: ${counts.join(', ')}${flaps}`;
}

function textOf(draft: Notification, plans: readonly Plan[]): string {
  const lines: string[] = [];
  if (draft.kind === 'storm' && draft.firingCount > 0) lines.push(...groupLines(plans), '');
  lines.push(...draft.firing.slice(0, MAX_LINES).map((alert) => lineOf(alert)));
  if (draft.firingCount > Math.min(MAX_LINES, draft.firing.length))
    lines.push(`and ${draft.firingCount - Math.min(MAX_LINES, draft.firing.length)} more that fire`);
  lines.push(...draft.resolved.slice(0, MAX_LINES).map((alert) => `resolved: ${lineOf(alert)}`));
  const left = draft.resolvedCount - Math.min(MAX_LINES, draft.resolved.length);
  if (left > 0) lines.push(`and ${left} more that have ended`);
  if (draft.flaps > 0) lines.push('It flaps: no more is said until it has been stable for 30 minutes.');
  const runbook = draft.firing[0]?.annotations.runbook_url;
  if (runbook !== undefined) lines.push(`Runbook: ${runbook}`);
  if (draft.link !== '') lines.push(draft.link);
  return lines.join('\n');
}

function groupLines(plans: readonly Plan[]): string[] {
  const largest = plans
    .filter((plan) => plan.firing.length > 0)
    .map((plan) => ({ plan, severity: worstSeverity(plan.firing) }))
    .sort((a, b) => b.severity - a.severity || b.plan.firing.length - a.plan.firing.length);
  const named = largest
    .slice(0, MAX_LINES)
    .map(
      ({ plan, severity }) =>
        `${plan.firing.length} ${nameOf(severity)}: ${labelWords(plan.group.identity.labels) || plan.firing[0]!.rule}`,
    );
  if (largest.length > named.length) named.push(`and ${largest.length - named.length} more groups`);
  return named;
}

function lineOf(alert: Alert): string {
  const seen = alert.acknowledged === undefined ? '' : ` (acknowledged by ${alert.acknowledged.by})`;
  return `[${severityName(alert.severity)}] ${alert.summary.slice(0, 300) || `${alert.rule} on ${placeOf(alert)}`}${seen}`;
}

function placeOf(alert: Alert): string {
  return alert.gpu === '' ? alert.node : `GPU ${alert.gpu} of ${alert.node}`;
}

function labelWords(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

function commonCluster(alerts: readonly Alert[]): string {
  const clusters = new Set(alerts.map(({ cluster }) => cluster));
  return clusters.size === 1 ? [...clusters][0]! : '';
}

function worstSeverity(alerts: readonly Alert[]): Severity {
  let most: Severity = Severity.UNSPECIFIED;
  for (const { severity } of alerts) if (severity > most) most = severity;
  return most;
}

function nameOf(severity: Severity): Notification['severity'] {
  const name = severityName(severity);
  return name === 'none' ? 'info' : name;
}

function newest(alerts: readonly Alert[], nowMs: number): number {
  return alerts.reduce((most, alert) => Math.max(most, updatedMs(alert)), 0) || nowMs;
}

function updatedMs(alert: Alert): number {
  return alert.updatedAt === undefined ? 0 : timestampMs(alert.updatedAt);
}

/** Without half of a character at its end. */
function cut(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1).toWellFormed()}…`;
}
