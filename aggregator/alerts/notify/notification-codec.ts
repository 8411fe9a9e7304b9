import { gunzipSync, gzipSync } from 'node:zlib';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { decodeAlert, encodeAlert } from '../bus/alert-message.ts';
import type { Notification } from './notification.ts';

/** So that a record with it fits a document of 64 KiB. */
const MAX_PACKED = 28 * 1024;

interface Packed extends Omit<Notification, 'firing' | 'resolved'> {
  readonly firing: readonly string[];
  readonly resolved: readonly string[];
}

/** As a text to keep, of at most 28 KiB: of a larger one fewer alerts are kept, the counts stay. */
export function packNotification(notification: Notification): string {
  for (let most = 64; ; most = Math.floor(most / 2)) {
    const packed: Packed = {
      ...notification,
      firing: notification.firing.slice(0, most).map(encodeAlert),
      resolved: notification.resolved.slice(0, most).map(encodeAlert),
    };
    const text = gzipSync(JSON.stringify(packed)).toString('base64');
    if (text.length <= MAX_PACKED || most === 0) return text;
  }
}

/** Undefined where it is none: damaged, or of a newer version. */
export function unpackNotification(text: unknown): Notification | undefined {
  try {
    const packed = JSON.parse(gunzipSync(Buffer.from(text as string, 'base64')).toString()) as Packed;
    return { ...packed, firing: alertsOf(packed.firing), resolved: alertsOf(packed.resolved) };
  } catch {
    return undefined;
  }
}

function alertsOf(texts: readonly string[]): Alert[] {
  return texts.flatMap((text) => decodeAlert(text) ?? []);
}
