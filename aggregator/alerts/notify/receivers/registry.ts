import { ALERTMANAGER } from './alertmanager.ts';
import { EMAIL } from './email.ts';
import { PAGERDUTY } from './pagerduty.ts';
import type { ReceiverKind } from './receiver-kind.ts';
import { SLACK } from './slack.ts';
import { WEBHOOK } from './webhook.ts';

/** Every kind of receiver by its name in the file. */
export const RECEIVER_KINDS: Readonly<Record<string, ReceiverKind>> = {
  slack: SLACK,
  email: EMAIL,
  pagerduty: PAGERDUTY,
  webhook: WEBHOOK,
  alertmanager: ALERTMANAGER,
};
