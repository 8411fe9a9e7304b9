import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { severityName } from '../../summary.ts';
import type { Notification } from '../notification.ts';
import { alertLabels, isoTime, startMs, whereOf } from './alert-facts.ts';
import { fitAlerts } from './fit-alerts.ts';
import { printable, shortened, webLink } from './short-text.ts';

/** PagerDuty's documentation, "Events API v2": an event is at most 512 KB; a little below, to be sure of "KB". */
const MAX_EVENT_BYTES = 500_000;
/** The same: longest `summary` and `dedup_key`. */
const MAX_SUMMARY = 1_024;
const MAX_DEDUP_KEY = 255;
/** Own judgement: more runbooks than that nobody opens at night. */
const MAX_LINKS = 10;
const MAX_FIELD = 1_024;

interface Link {
  readonly href: string;
  readonly text: string;
}

/**
 * The event as JSON. One incident for each group: `dedup_key` is the group's key. Their severities are critical,
 * error, warning and info, of which ours are three.
 */
export function pagerDutyEvent(notification: Notification, routingKey: string): string {
  const envelope = {
    routing_key: routingKey,
    dedup_key: shortened(notification.groupKey, MAX_DEDUP_KEY),
    event_action: notification.status === 'resolved' ? 'resolve' : 'trigger',
  };
  const client = webLink(notification.link);
  return fitAlerts(
    notification,
    ({ firing, resolved }) =>
      JSON.stringify({
        ...envelope,
        client: 'gpufleet',
        ...(client !== undefined && { client_url: client }),
        links: linksOf(client, firing),
        payload: {
          ...payload(notification),
          custom_details: {
            ...details(notification),
            firing: firing.map(alertDetails),
            resolved: resolved.map(alertDetails),
          },
        },
      }),
    MAX_EVENT_BYTES,
  );
}

function payload(notification: Notification): object {
  const { title, severity, cluster, groupLabels, atMs } = notification;
  const alerts = [...notification.firing, ...notification.resolved];
  const component = only(alerts.map((alert) => alert.gpu && `GPU ${alert.gpu}`));
  const rule = only(alerts.map((alert) => alert.rule));
  return {
    summary: shortened(printable(title), MAX_SUMMARY) || 'alerts',
    source: field(only(alerts.map((alert) => alert.node)) ?? cluster) || 'gpufleet',
    severity,
    timestamp: isoTime(atMs),
    ...(component !== undefined && { component: field(component) }),
    ...(rule !== undefined && { class: field(rule) }),
    group: field(groupLabels.pool ?? cluster) || 'gpufleet',
  };
}

function details({ firingCount, resolvedCount, flaps, groupLabels, kind, text, id }: Notification): object {
  const group = Object.entries(groupLabels).map(([name, value]) => [field(name), field(value)]);
  return {
    text: printable(text, true),
    firing_count: firingCount,
    resolved_count: resolvedCount,
    ...(flaps > 0 && { flaps }),
    kind,
    group: Object.fromEntries(group),
    notification_id: id,
  };
}

function alertDetails(alert: Alert): object {
  const labels = Object.entries(alertLabels(alert)).map(([name, value]) => [field(name), field(value)]);
  return {
    where: field(whereOf(alert)),
    rule: alert.rule,
    severity: severityName(alert.severity),
    since: isoTime(startMs(alert)),
    summary: field(alert.summary),
    labels: Object.fromEntries(labels),
  };
}

/** The console, and each runbook once. */
function linksOf(client: string | undefined, firing: readonly Alert[]): readonly Link[] {
  const links = new Map<string, Link>();
  if (client !== undefined) links.set(client, { href: client, text: 'gpufleet' });
  for (const { annotations, rule } of firing) {
    const href = webLink(annotations.runbook_url ?? '');
    if (href === undefined || links.has(href)) continue;
    links.set(href, { href, text: `runbook: ${field(rule)}` });
    if (links.size >= MAX_LINKS) break;
  }
  return [...links.values()];
}

/** The value that all have; undefined where they differ or have none. */
function only(values: readonly string[]): string | undefined {
  const [first] = values;
  return first && values.every((value) => value === first) ? first : undefined;
}

function field(text: string): string {
  return shortened(printable(text), MAX_FIELD);
}
