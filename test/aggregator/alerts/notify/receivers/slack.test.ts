import { describe, expect, test } from 'vitest';
import type { Notification } from '../../../../../aggregator/alerts/notify/notification.ts';
import { tempDir } from '../../../../support/temp.ts';
import { slackFaults, webhookAnswer } from './fake-slack.ts';
import { BOT_TOKEN, openReceiver, SLACK_PATH, secretIn } from './places.ts';
import {
  fullNotification,
  HOSTILE,
  hostileNotification,
  sampleAlert,
  sampleNotification,
} from './sample-notification.ts';
import { type ScriptedAnswer, startScriptedServer } from './scripted-server.ts';

const soon = (): AbortSignal => AbortSignal.timeout(20_000);

interface Message {
  readonly text: string;
  readonly channel?: string;
  readonly attachments: readonly [{ readonly color: string; readonly blocks: readonly Block[] }];
}

interface Block {
  readonly type: string;
  readonly text?: { readonly text: string; readonly verbatim?: boolean };
  readonly elements?: readonly { readonly url?: string; readonly text: { readonly text: string } }[];
}

/** What arrives at an incoming webhook. */
async function posted(notification: Notification, settings: object = {}): Promise<Message> {
  await using dir = tempDir('slack');
  await using server = await startScriptedServer((request) => webhookAnswer(request, SLACK_PATH));
  const file = secretIn(dir, 'url', `${server.url}${SLACK_PATH}`);
  await using receiver = await openReceiver('slack', { webhook_url_file: file, ...settings });
  expect(await receiver.send(notification, soon())).toEqual({ outcome: 'sent' });
  return JSON.parse(server.seen[0]!.body) as Message;
}

/** What becomes of a message to a bot's API that answers so. */
async function answered(answer: ScriptedAnswer): Promise<unknown> {
  await using dir = tempDir('slack');
  await using server = await startScriptedServer(() => answer);
  const token = secretIn(dir, 'token', BOT_TOKEN);
  const settings = { bot_token_file: token, channel: 'C1', api_url: `${server.url}/api/` };
  await using receiver = await openReceiver('slack', settings);
  const delivery = await receiver.send(sampleNotification(), soon());
  expect(server.seen[0]).toMatchObject({
    path: '/api/chat.postMessage',
    headers: { authorization: `Bearer ${BOT_TOKEN}` },
  });
  return delivery;
}

describe('a message to Slack', () => {
  test('says what, how bad, where to look: a person on call reads it on a lock screen', async () => {
    const message = await posted(sampleNotification({ severity: 'critical', flaps: 4 }), { channel: '#gpu' });
    expect(message.text).toBe('CRITICAL: 1 GPU is too hot in alpha');
    expect(message.channel).toBe('#gpu');
    const [{ blocks }] = message.attachments;
    expect(blocks.map(({ type }) => type)).toEqual(['section', 'section', 'context', 'actions']);
    expect(blocks[1]!.text!.text).toBe('gpu-017 GPU 3: 91 °C\nsince 03:04');
    expect(JSON.stringify(blocks[2])).toContain('fired 4 times');
    expect(blocks[3]!.elements!.map(({ url, text }) => [text.text, url])).toEqual([
      ['Open console', 'https://gpufleet.example/alerts?group=1'],
      ['Runbook: gpu-too-hot', 'https://runbooks.example/hot'],
    ]);
  });

  test('has a colour for each severity, and green only when all is over', async () => {
    const colours = new Set<string>();
    for (const severity of ['info', 'warning', 'critical'] as const)
      colours.add((await posted(sampleNotification({ severity }))).attachments[0].color);
    const over = await posted(sampleNotification({ severity: 'critical', status: 'resolved' }));
    colours.add(over.attachments[0].color);
    expect(colours.size).toBe(4);
    expect(over.text).toMatch(/^RESOLVED: /);
  });

  test('calls nobody and runs no command because of a label: <!channel> in a node name is text', async () => {
    const message = await posted(hostileNotification());
    const raw = JSON.stringify(message);
    expect(raw).not.toMatch(/<!|<@|<script/);
    expect(raw).toContain('&lt;!channel&gt;');
    for (const block of message.attachments[0].blocks)
      if (block.type === 'section') expect(block.text!.verbatim).toBe(true);
    expect(raw).not.toContain('javascript:');
  });

  test.each(HOSTILE.map((text, index) => [index, text] as const))(
    'keeps to the limits with hostile text %i in every place',
    async (_, text) => {
      const alert = sampleAlert({ node: text, summary: text });
      await posted(sampleNotification({ title: text, text, groupLabels: { node: text }, firing: [alert] }));
      await posted(sampleNotification({ title: text, text: '', firing: [alert] }));
      await posted(sampleNotification({ title: '', text: '', firing: [] }));
    },
  );

  test('keeps to 3,000 characters a block with escapes counted: one too many and nobody is told', async () => {
    const [{ blocks }] = (await posted(fullNotification())).attachments;
    const lengths = blocks.map(({ text }) => text?.text.length ?? 0);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(3_000);
    const line = '<'.repeat(4_000);
    expect((await posted(sampleNotification({ text: line }))).attachments[0].blocks[1]!.text!.text).toMatch(
      /^(&lt;)+…$/,
    );
  });

  test('lists the alerts where the template says nothing', async () => {
    const [{ blocks }] = (await posted(sampleNotification({ text: '' }))).attachments;
    expect(blocks[1]!.text!.text).toBe('warning: gpu-017 GPU 3: GPU 3 is at 91 °C');
  });
});

describe('an incoming webhook of Slack', () => {
  // The words are those of Slack's documentation, "Handling errors" of incoming webhooks.
  test.each([
    [400, 'invalid_payload', 'refused'],
    [403, 'action_prohibited', 'refused'],
    [404, 'channel_not_found', 'refused'],
    [404, 'no_service', 'refused'],
    [410, 'channel_is_archived', 'refused'],
    [500, 'rollup_error', 'retry'],
  ])('that answers %i %s', async (status, body, outcome) => {
    await using dir = tempDir('slack');
    await using server = await startScriptedServer(() => ({ status, body }));
    const file = secretIn(dir, 'url', `${server.url}${SLACK_PATH}`);
    await using receiver = await openReceiver('slack', { webhook_url_file: file });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome,
      why: `it answered ${status}: ${body}`,
    });
  });

  test('shows its URL, which is a secret, to no log', async () => {
    await using dir = tempDir('slack');
    await using server = await startScriptedServer(({ path }) => ({
      status: 404,
      body: `no such path ${path}`,
    }));
    const file = secretIn(dir, 'url', `${server.url}${SLACK_PATH}`);
    await using receiver = await openReceiver('slack', { webhook_url_file: file });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome: 'refused',
      why: 'it answered 404: no such path ***',
    });
    secretIn(dir, 'url', 'not a url but secret');
    const broken = await receiver.send(sampleNotification(), soon());
    expect(broken).toMatchObject({ outcome: 'retry', why: expect.not.stringContaining('secret t') });
    expect(JSON.stringify(broken)).not.toContain('but secret');
  });
});

describe('chat.postMessage', () => {
  const json = (answer: object, status = 200): ScriptedAnswer => ({ status, body: JSON.stringify(answer) });

  test('answers 200 to what it refuses: only ok is ok', async () => {
    expect(await answered(json({ ok: true, ts: '1.2' }))).toEqual({ outcome: 'sent' });
    for (const error of [
      'channel_not_found',
      'not_in_channel',
      'is_archived',
      'invalid_auth',
      'invalid_blocks',
    ])
      expect(await answered(json({ ok: false, error }))).toEqual({
        outcome: 'refused',
        why: `Slack said ${error}`,
      });
  });

  test('is tried again where it says that it was busy', async () => {
    for (const error of ['rate_limited', 'internal_error', 'service_unavailable'])
      expect(await answered(json({ ok: false, error }))).toEqual({
        outcome: 'retry',
        why: `Slack said ${error}`,
      });
    const limited = { ...json({ ok: false, error: 'ratelimited' }, 429), headers: { 'retry-after': '30' } };
    expect(await answered(limited)).toMatchObject({ outcome: 'retry', afterMs: 30_000 });
    expect(await answered({ status: 200, body: '<html>a proxy</html>' })).toMatchObject({ outcome: 'retry' });
  });
});

test('the fake refuses what Slack refuses: a suite against a fake that takes all would prove nothing', () => {
  const message = (text: string, blocks: object[]): string =>
    JSON.stringify({ text, attachments: [{ color: '#112233', blocks }] });
  const section = (text: string): object => ({ type: 'section', text: { type: 'mrkdwn', text } });
  expect(slackFaults(message('a', [section('b')]))).toEqual([]);
  expect(slackFaults(message('a', [section('x'.repeat(3_001))]))).toEqual([
    'must be less than 3001 characters',
  ]);
  expect(
    slackFaults(
      message(
        'a',
        Array.from({ length: 51 }, () => section('b')),
      ),
    ),
  ).toEqual(['more than 50 blocks']);
  expect(slackFaults(message('a <!channel>', [section('')]))).toHaveLength(2);
});
