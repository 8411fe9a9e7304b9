import {
  type NotificationInfo,
  NotificationInfoSchema,
  NotificationState,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { namesOf, severity } from './format.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

const notificationState = namesOf(NotificationState);

/** Words of `--state`. */
export const NOTIFICATION_STATES = {
  waiting: NotificationState.WAITING,
  sent: NotificationState.SENT,
  dead: NotificationState.DEAD,
} as const;

export interface NotificationOptions {
  readonly state?: keyof typeof NOTIFICATION_STATES;
  readonly receiver?: string;
  readonly limit?: number;
}

/** `gpufleet notifications`: who was told what, newest first. */
export async function notifications(
  { alerting, output }: CommandContext,
  { state, receiver = '', limit = 100 }: NotificationOptions,
): Promise<void> {
  const found = await allPages(async (page) => {
    const wanted = state === undefined ? NotificationState.UNSPECIFIED : NOTIFICATION_STATES[state];
    const answer = await alerting.listNotifications({ ...page, receiver, state: wanted });
    return { rows: answer.notifications, nextPageToken: answer.nextPageToken };
  }, limit);
  if (output.json)
    return writeJson(output, { notifications: found.map((one) => jsonOf(NotificationInfoSchema, one)) });
  if (found.length === 0) return output.write('nobody was notified\n');
  writeTable<NotificationInfo>(
    output,
    [
      { title: 'TIME', cell: ({ at }) => timeText(at) },
      { title: 'STATE', cell: ({ state: is, attempts }) => `${notificationState(is)}${tries(attempts)}` },
      { title: 'RECEIVER', cell: ({ receiver: name, kind }) => `${name} (${kind})` },
      { title: 'SEVERITY', cell: (one) => severity(one.severity) },
      { title: 'ID', cell: ({ id }) => id },
      { title: 'TITLE', cell: ({ title }) => title },
      { title: 'WHY', cell: ({ why }) => why || '-' },
    ],
    found,
  );
}

/** `gpufleet notifications resend [id...]`. */
export async function resendNotifications(
  { alerting, output }: CommandContext,
  ids: readonly string[],
): Promise<void> {
  const { resent } = await alerting.resendNotifications({ ids: [...ids] });
  if (output.json) return writeJson(output, { resent });
  output.write(resent === 1 ? '1 notification is sent again\n' : `${resent} notifications are sent again\n`);
}

function tries(attempts: number): string {
  return attempts > 1 ? ` (${attempts} tries)` : '';
}
