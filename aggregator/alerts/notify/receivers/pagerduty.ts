import * as v from 'valibot';
import { HttpCaller, httpSettings, plainUrl } from '../../http/http-caller.ts';
import { SecretFile, secretFilePath, warnUnreadable } from '../../http/secret-file.ts';
import type { Notification, Receiver } from '../notification.ts';
import { guarded } from './guarded-receiver.ts';
import { pagerDutyEvent } from './pagerduty-event.ts';
import { commonSettings, type ReceiverDeps, type ReceiverKind } from './receiver-kind.ts';

const schema = v.strictObject({
  ...commonSettings,
  ...httpSettings,
  /** The integration key of an "Events API v2" integration of the service. */
  routing_key_file: secretFilePath,
  /** PagerDuty's documentation, "Events API v2"; https://events.eu.pagerduty.com/v2/enqueue for the EU region. */
  url: v.optional(plainUrl, 'https://events.pagerduty.com/v2/enqueue'),
});

async function open(settings: v.InferOutput<typeof schema>, deps: ReceiverDeps): Promise<Receiver> {
  const caller = new HttpCaller(settings, deps.clock);
  const key = new SecretFile(settings.routing_key_file);
  warnUnreadable([key], deps);
  return guarded('pagerduty', {
    async send(notification: Notification, signal) {
      const routingKey = key.read();
      const body = pagerDutyEvent(notification, routingKey);
      const { delivery } = await caller.post({ url: settings.url, body, signal, secrets: [routingKey] });
      return delivery;
    },
    close: () => caller.close(),
  });
}

/** PagerDuty's Events API v2: one incident for each group, which resolves with the group. */
export const PAGERDUTY: ReceiverKind<v.InferOutput<typeof schema>> = { schema, open };
