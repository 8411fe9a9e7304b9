import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Notification } from '../notification.ts';

/** The alerts that still have room, worst and newest first. */
export interface FittingAlerts {
  readonly firing: readonly Alert[];
  readonly resolved: readonly Alert[];
}

/**
 * A body of at most `maxBytes`: with all alerts of the notification, else with half of them, and so on down to none,
 * which `build` must keep below the limit by itself.
 */
export function fitAlerts(
  { firing, resolved }: Notification,
  build: (alerts: FittingAlerts) => string,
  maxBytes: number,
): string {
  for (let count = Math.max(firing.length, resolved.length); count > 0; count = Math.floor(count / 2)) {
    const body = build({ firing: firing.slice(0, count), resolved: resolved.slice(0, count) });
    if (Buffer.byteLength(body) <= maxBytes) return body;
  }
  return build({ firing: [], resolved: [] });
}
