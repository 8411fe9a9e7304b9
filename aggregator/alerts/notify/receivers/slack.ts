import * as v from 'valibot';
import { HttpCaller, type HttpOutcome, httpSettings, plainUrl } from '../../http/http-caller.ts';
import { SecretFile, secretFilePath, warnUnreadable } from '../../http/secret-file.ts';
import type { Delivery, Notification, Receiver } from '../notification.ts';
import { guarded } from './guarded-receiver.ts';
import { commonSettings, type ReceiverDeps, type ReceiverKind } from './receiver-kind.ts';
import { slackMessage } from './slack-message.ts';

/**
 * Errors of chat.postMessage that another try may mend, as its documentation lists them; `ratelimited` is what its
 * rate limits answer with.
 */
const PASSING = new Set([
  'fatal_error',
  'internal_error',
  'rate_limited',
  'ratelimited',
  'request_timeout',
  'service_unavailable',
  'team_added_to_org',
]);

const schema = v.pipe(
  v.strictObject({
    ...commonSettings,
    ...httpSettings,
    /** An incoming webhook, whose URL is a secret; its channel was chosen in Slack. */
    webhook_url_file: v.optional(secretFilePath),
    /** A bot's token (xoxb-...) for chat.postMessage, scope chat:write. */
    bot_token_file: v.optional(secretFilePath),
    /** Name or id; an incoming webhook of an app ignores it. */
    channel: v.optional(
      v.pipe(v.string('must be text'), v.regex(/^[^\s\p{Cc}]{1,100}$/u, 'must be a channel')),
    ),
    api_url: v.optional(plainUrl, 'https://slack.com/api'),
  }),
  v.check(
    ({ webhook_url_file, bot_token_file }) =>
      (webhook_url_file === undefined) !== (bot_token_file === undefined),
    'give webhook_url_file or bot_token_file',
  ),
  v.check(
    ({ bot_token_file, channel }) => bot_token_file === undefined || channel !== undefined,
    'bot_token_file needs a channel',
  ),
);

type Settings = v.InferOutput<typeof schema>;

async function open(settings: Settings, deps: ReceiverDeps): Promise<Receiver> {
  const { webhook_url_file, bot_token_file } = settings;
  const caller = new HttpCaller(settings, deps.clock);
  const secret = new SecretFile(webhook_url_file ?? bot_token_file!);
  warnUnreadable([secret], deps);
  const send = webhook_url_file === undefined ? asBot : toWebhook;
  return guarded('slack', {
    send: (notification, signal) => send({ settings, caller, secret, notification, signal }),
    close: () => caller.close(),
  });
}

interface Sending {
  readonly settings: Settings;
  readonly caller: HttpCaller;
  readonly secret: SecretFile;
  readonly notification: Notification;
  readonly signal: AbortSignal;
}

async function toWebhook({ settings, caller, secret, notification, signal }: Sending): Promise<Delivery> {
  const url = secret.readUrl();
  const body = messageJson(notification, settings.channel);
  const { delivery } = await caller.post({ url, body, signal, secrets: [url, new URL(url).pathname] });
  return delivery;
}

async function asBot({ settings, caller, secret, notification, signal }: Sending): Promise<Delivery> {
  const token = secret.read();
  return deliveryOfAnswer(
    await caller.post({
      url: `${settings.api_url.replace(/\/+$/, '')}/chat.postMessage`,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json; charset=utf-8' },
      body: messageJson(notification, settings.channel),
      signal,
      secrets: [token],
    }),
  );
}

function messageJson(notification: Notification, channel: string | undefined): string {
  return JSON.stringify({ ...(channel !== undefined && { channel }), ...slackMessage(notification) });
}

/** chat.postMessage answers 200 to what it refuses, and says so in the body. */
function deliveryOfAnswer({ delivery, text }: HttpOutcome): Delivery {
  if (delivery.outcome !== 'sent') return delivery;
  const answer = parsed(text);
  if (answer?.ok === true) return { outcome: 'sent' };
  const error = typeof answer?.error === 'string' ? answer.error.slice(0, 100) : undefined;
  if (error === undefined) return { outcome: 'retry', why: 'the answer is not one of Slack' };
  return { outcome: PASSING.has(error) ? 'retry' : 'refused', why: `Slack said ${error}` };
}

function parsed(text: string): { readonly ok?: unknown; readonly error?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Slack, by an incoming webhook or as a bot. */
export const SLACK: ReceiverKind<Settings> = { schema, open };
