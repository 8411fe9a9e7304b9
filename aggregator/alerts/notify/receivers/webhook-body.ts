import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { severityName } from '../../summary.ts';
import type { Notification } from '../notification.ts';
import { alertAnnotations, alertLabels, endMs, isFiring, isoTime, startMs, whereOf } from './alert-facts.ts';
import { fitAlerts } from './fit-alerts.ts';

/** What a web server takes without being told to take more: nginx's client_max_body_size default is 1 MB. */
const MAX_BODY_BYTES = 1_000_000;
/** Alertmanager's webhook format, of which the body has every field. */
const VERSION = '4';
const NEVER = '0001-01-01T00:00:00Z';

/**
 * The JSON body: Alertmanager's webhook format, and fields of our own. The same bytes for each try of a notification.
 */
export function webhookBody(notification: Notification, receiver: string): string {
  const { firingCount, resolvedCount, groupLabels, groupKey, status } = notification;
  return fitAlerts(
    notification,
    ({ firing, resolved }) => {
      const alerts = [...firing, ...resolved];
      return JSON.stringify({
        version: VERSION,
        groupKey,
        truncatedAlerts: Math.max(firingCount + resolvedCount - alerts.length, 0),
        status,
        receiver,
        groupLabels,
        commonLabels: common(alerts.map(alertLabels)),
        commonAnnotations: common(alerts.map(alertAnnotations)),
        externalURL: notification.link,
        alerts: alerts.map((alert) => alertBody(alert, notification.link)),
        ...ownFields(notification),
      });
    },
    MAX_BODY_BYTES,
  );
}

function ownFields(notification: Notification): object {
  const { id, cluster, severity, kind, title, text, firingCount, resolvedCount, flaps, atMs } = notification;
  return {
    notificationId: id,
    cluster,
    severity,
    kind,
    title,
    text,
    firingCount,
    resolvedCount,
    flaps,
    at: isoTime(atMs),
  };
}

function alertBody(alert: Alert, link: string): object {
  const end = endMs(alert);
  return {
    status: isFiring(alert) ? 'firing' : 'resolved',
    labels: { alertname: alert.rule, ...alertLabels(alert) },
    annotations: alertAnnotations(alert),
    startsAt: isoTime(startMs(alert)),
    // As Alertmanager says that it has not ended.
    endsAt: end === undefined ? NEVER : isoTime(end),
    generatorURL: link,
    fingerprint: alert.id,
    severity: severityName(alert.severity),
    where: whereOf(alert),
    // JSON has no NaN: null.
    value: alert.value,
    threshold: alert.threshold,
    transition: Number(alert.transition),
    acknowledged: alert.acknowledged !== undefined,
  };
}

/** What all of them have with the same value. */
function common(all: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  const [first = {}, ...rest] = all;
  return Object.fromEntries(
    Object.entries(first).filter(([name, value]) => rest.every((other) => other[name] === value)),
  );
}
