import type { ScriptedAnswer, SeenRequest } from './scripted-server.ts';

/**
 * What Slack's documentation says of a message ("Reference: blocks", "Formatting text", "chat.postMessage",
 * "Sending messages using incoming webhooks"), as far as our messages touch it. Written from the documentation:
 * no Slack was asked.
 */
type Json = Readonly<Record<string, unknown>>;

const MAX_BLOCKS = 50;
/** Ids that Slack gives and documented escapes; a bare `<` or `>` begins or ends one of its commands. */
const UNESCAPED = /<|>|&(?!amp;|lt;|gt;)/;

/** The faults of a message, empty where Slack would take it. */
export function slackFaults(body: string): string[] {
  const faults: string[] = [];
  const message = JSON.parse(body) as Json;
  const text = String(message.text ?? '');
  if (text.length > 40_000) faults.push('msg_too_long');
  if (UNESCAPED.test(text)) faults.push('text is not escaped');
  const attachments = list(message.attachments);
  const blocks = [...list(message.blocks), ...attachments.flatMap((attachment) => list(attachment.blocks))];
  if (text === '' && blocks.length === 0) faults.push('no_text');
  if (blocks.length > MAX_BLOCKS) faults.push('more than 50 blocks');
  for (const { color } of attachments)
    if (!/^(#[0-9a-f]{6}|good|warning|danger)$/.test(String(color))) faults.push(`no colour: ${color}`);
  for (const block of blocks) blockFaults(block, faults);
  return faults;
}

function blockFaults(block: Json, faults: string[]): void {
  const elements = list(block.elements);
  if (block.type === 'section') textFaults(block.text, 3_000, faults);
  else if (block.type === 'context') {
    if (elements.length < 1 || elements.length > 10) faults.push('a context has 1 to 10 elements');
    for (const element of elements) textFaults(element, 3_000, faults);
  } else if (block.type === 'actions') {
    if (elements.length < 1 || elements.length > 25) faults.push('actions have 1 to 25 elements');
    for (const element of elements) {
      textFaults(element.text, 75, faults);
      if (!/^https?:\/\//.test(String(element.url)) || String(element.url).length > 3_000)
        faults.push('no url');
    }
    if (new Set(elements.map((element) => element.action_id)).size < elements.length)
      faults.push('action_id twice');
  } else faults.push(`no block of ours: ${String(block.type)}`);
}

function textFaults(object: unknown, max: number, faults: string[]): void {
  const { type, text } = object as Json;
  const words = String(text ?? '');
  if (type !== 'mrkdwn' && type !== 'plain_text') faults.push(`no text object: ${String(type)}`);
  if (words.trim().length === 0) faults.push('must be more than 0 characters');
  if (words.length > max) faults.push(`must be less than ${max + 1} characters`);
  if (type === 'mrkdwn' && UNESCAPED.test(words)) faults.push('text is not escaped');
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}

/** An incoming webhook. */
export function webhookAnswer(request: SeenRequest, path: string): ScriptedAnswer {
  if (request.path !== path) return { status: 404, body: 'no_service' };
  if (slackFaults(request.body).length > 0) return { status: 400, body: 'invalid_payload' };
  return { status: 200, body: 'ok' };
}

/** chat.postMessage for a bot with `token` that is in `channel`. */
export function botAnswer(request: SeenRequest, token: string, channel: string): ScriptedAnswer {
  const say = (answer: Json): ScriptedAnswer => ({
    status: 200,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify(answer),
  });
  if (request.path !== '/api/chat.postMessage') return { status: 404 };
  if (request.headers.authorization !== `Bearer ${token}`) return say({ ok: false, error: 'invalid_auth' });
  if (slackFaults(request.body).length > 0) return say({ ok: false, error: 'invalid_blocks' });
  if ((JSON.parse(request.body) as Json).channel !== channel)
    return say({ ok: false, error: 'channel_not_found' });
  return say({ ok: true, channel: 'C123', ts: '1700000000.000100' });
}
