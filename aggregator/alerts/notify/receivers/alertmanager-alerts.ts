import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Notification } from '../notification.ts';
import { alertAnnotations, alertLabels, endMs, isoTime, startMs } from './alert-facts.ts';
import { printable, shortened, webLink } from './short-text.ts';

/** An alert as Alertmanager's API v2 takes it (`postableAlert`). */
export interface PostableAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly endsAt: string;
  readonly generatorURL?: string;
}

/** One alert of ours, by what tells it from the others whatever its labels become. */
export interface NamedAlert {
  readonly id: string;
  readonly firing: boolean;
  readonly alert: PostableAlert;
}

/** Own judgement; Alertmanager sets no limit, and its pages show them all. */
const MAX_VALUE = 2_048;
/** The alert that stands for those of a group that the notification has no room for. */
const MORE_ALERTS = 'gpufleet-more-alerts';

/**
 * The alerts of a notification. Those that fire end at `untilMs` unless they are sent again before; those that have
 * ended end when they did, or now where their clock is ahead of ours.
 */
export function postableAlerts(notification: Notification, nowMs: number, untilMs: number): NamedAlert[] {
  const url = webLink(notification.link);
  const linked = (alert: PostableAlert): PostableAlert => (url ? { ...alert, generatorURL: url } : alert);
  const all = [...notification.firing, ...notification.resolved].map((alert): NamedAlert => {
    const end = endMs(alert);
    const endsMs = end === undefined ? untilMs : Math.min(end, nowMs);
    const times = period(startMs(alert), endsMs, nowMs);
    return {
      id: alert.id,
      firing: end === undefined,
      alert: linked({ labels: labelsOf(alert), annotations: named(alertAnnotations(alert)), ...times }),
    };
  });
  const more = moreAlerts(notification, nowMs, untilMs);
  if (more) all.push({ ...more, alert: linked(more.alert) });
  return all;
}

/** The same alert, ended: what it was called before its labels changed. */
export function ended(alert: PostableAlert, nowMs: number): PostableAlert {
  return { ...alert, ...period(Date.parse(alert.startsAt), nowMs, nowMs) };
}

function labelsOf(alert: Alert): Record<string, string> {
  return named({ ...alertLabels(alert), alertname: alert.rule });
}

function moreAlerts(notification: Notification, nowMs: number, untilMs: number): NamedAlert | undefined {
  const { firingCount, firing, groupLabels, groupKey, cluster, severity } = notification;
  const count = firingCount - firing.length;
  if (count <= 0) return undefined;
  const labels = named({ ...groupLabels, cluster, severity, group: groupKey, alertname: MORE_ALERTS });
  const annotations = { summary: `${count} more alerts of this group fire, which are not listed here` };
  const times = period(notification.atMs, untilMs, nowMs);
  return { id: `more/${groupKey}`, firing: true, alert: { labels, annotations, ...times } };
}

/** Alertmanager refuses an alert that starts in its future or after its end. */
function period(startMs: number, endMs: number, nowMs: number): { startsAt: string; endsAt: string } {
  return { startsAt: isoTime(Math.min(startMs, endMs, nowMs)), endsAt: isoTime(endMs) };
}

/** Names as Alertmanager takes them, `[a-zA-Z_][a-zA-Z0-9_]*`; it drops empty values. */
function named(texts: Readonly<Record<string, string>>): Record<string, string> {
  const all: Record<string, string> = {};
  for (const [name, value] of Object.entries(texts)) {
    const text = shortened(printable(value, true), MAX_VALUE);
    if (text !== '') all[name.replaceAll(/[^a-zA-Z0-9_]/g, '_').replace(/^(?=\d|$)/, '_')] = text;
  }
  return all;
}
