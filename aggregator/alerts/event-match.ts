import { isCriticalXid, xidNamed } from '#shared/catalogue/xid.ts';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { alertId } from './alert-id.ts';
import type { EventRule, LabelMatch } from './rules/rules.ts';

/** Longest key of an event alert: it comes from the agent. */
const MAX_KEY = 100;

/** Whether the event raises an alert of the rule. */
export function raises(rule: EventRule, event: FleetEvent): boolean {
  return rule.event === event.type && matchesCodes(rule, event) && carries(event, rule.where);
}

/** Whether the event says that what raised an alert of the rule is over. */
export function ends(rule: EventRule, event: FleetEvent): boolean {
  return (
    (rule.untilEvent ?? rule.event) === event.type && rule.until !== undefined && carries(event, rule.until)
  );
}

export function keyOf({ key }: EventRule, { attributes }: FleetEvent): string {
  return key === undefined ? '' : (attributes[key] ?? '').slice(0, MAX_KEY);
}

export function eventAlertId(rule: EventRule, { cluster, node }: Source, event: FleetEvent): string {
  return alertId(cluster, node, event.gpuUuid || event.gpu, rule.name, keyOf(rule, event));
}

/** What an event says beyond its text: its code as a number, that code in words, and the labels of its alert. */
interface EventDetails {
  readonly value: number;
  /** Empty for most. */
  readonly known: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function detailsOf(event: FleetEvent): EventDetails {
  const code = codeOf(event);
  const xid = event.type === 'xid' && code !== undefined ? xidNamed(code) : undefined;
  return {
    value: code ?? 1,
    // What the agent says of it goes first: it knows the driver's own verdict, and the site's.
    known: xid === undefined ? '' : `${code} (${event.attributes.name ?? xid.name})`,
    labels: xid === undefined ? event.attributes : { action: xid.action, ...event.attributes },
  };
}

function carries({ attributes }: FleetEvent, wanted: LabelMatch): boolean {
  for (const name in wanted) if (attributes[name] !== wanted[name]) return false;
  return true;
}

/** A follower of another error is no incident of its own; what an operator suppressed wakes nobody. */
function matchesCodes(rule: EventRule, event: FleetEvent): boolean {
  if (event.attributes.follows || event.attributes.suppressed) return false;
  if (rule.codes === 'any') return true;
  const code = codeOf(event);
  if (code === undefined) return false;
  if (rule.codes !== 'critical') return rule.codes.has(code);
  const { severity } = event.attributes;
  return severity === undefined ? isCriticalXid(code) : severity === 'critical';
}

function codeOf(event: FleetEvent): number | undefined {
  const text = event.attributes.code;
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}
