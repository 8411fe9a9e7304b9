import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Receiver } from '../../../../../aggregator/alerts/notify/notification.ts';
import { RECEIVER_KINDS } from '../../../../../aggregator/alerts/notify/receivers/registry.ts';
import { silentLogger } from '../../../../../shared/logging/logger.ts';
import { type TempDir, tempDir } from '../../../../support/temp.ts';
import { pagerDutyAnswer } from './fake-pagerduty.ts';
import { botAnswer, webhookAnswer } from './fake-slack.ts';
import { type MailHost, startMailHost } from './mail-host.ts';
import { AT } from './sample-notification.ts';
import { type Mood, type ScriptedAnswer, type SeenRequest, startScriptedServer } from './scripted-server.ts';

/** Somewhere that notifications go to, and what it does with them. */
export interface Place extends AsyncDisposable {
  readonly kind: string;
  /** As in the file, under the kind's name. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where its secrets are. */
  readonly secrets: readonly string[];
  /** Tries that have reached it. */
  readonly reached: () => number;
  /** Messages that it took. */
  readonly taken: () => number;
  be(mood: Mood): void;
  /** Nobody listens there any more. */
  stop(): Promise<void>;
}

/** The moment at which receivers of these tests send. */
export const NOW = AT + 5_000;
export const ROUTING_KEY = '0123456789abcdef0123456789abcdef';
export const SLACK_PATH = '/services/T000/B000/XXXXsecretXXXX';
export const BOT_TOKEN = 'xoxb-secret-token';

/** A receiver of any kind with settings as they stand in the file. */
export async function openReceiver(
  kind: string,
  settings: object,
  nowMs = (): number => NOW,
): Promise<Receiver> {
  const { schema, open } = RECEIVER_KINDS[kind]!;
  return open(v.parse(schema, settings), {
    name: 'on-call',
    clock: { now: nowMs, monotonic: () => performance.now() },
    logger: silentLogger,
  });
}

/** A file with a secret, gone with its folder. */
export function secretIn(dir: TempDir, name: string, secret: string): string {
  const path = join(dir.path, name);
  writeFileSync(path, `${secret}\n`);
  return path;
}

type Start = () => Promise<Place>;

/** Every kind of receiver, both ways into Slack, before a place that takes what it is documented to take. */
export const PLACES: readonly (readonly [name: string, start: Start])[] = [
  [
    'slack webhook',
    () =>
      web('slack', 'webhook_url_file', {
        secret: (url) => `${url}${SLACK_PATH}`,
        answer: (request) => webhookAnswer(request, SLACK_PATH),
      }),
  ],
  [
    'slack bot',
    () =>
      web('slack', 'bot_token_file', {
        secret: () => BOT_TOKEN,
        answer: (request) => botAnswer(request, BOT_TOKEN, '#gpu'),
        settings: (url) => ({ api_url: `${url}/api`, channel: '#gpu' }),
      }),
  ],
  ['email', mail],
  [
    'pagerduty',
    () =>
      web('pagerduty', 'routing_key_file', {
        secret: () => ROUTING_KEY,
        answer: pagerDutyAnswer,
        settings: (url) => ({ url: `${url}/v2/enqueue` }),
      }),
  ],
  [
    'webhook',
    () =>
      web('webhook', 'secret_file', {
        secret: () => 'a signing secret',
        answer: ({ body }) => ({ status: JSON.parse(body).version === '4' ? 200 : 400 }),
        settings: (url) => ({ url: `${url}/hook` }),
      }),
  ],
  [
    'alertmanager',
    () =>
      web('alertmanager', 'bearer_token_file', {
        secret: () => 'a bearer token',
        answer: ({ body }) => ({ status: Array.isArray(JSON.parse(body)) ? 200 : 400 }),
        settings: (url) => ({ urls: [url] }),
      }),
  ],
];

interface WebPlace {
  readonly secret: (url: string) => string;
  readonly answer: (request: SeenRequest) => ScriptedAnswer;
  readonly settings?: (url: string) => object;
}

async function web(
  kind: string,
  secretSetting: string,
  { secret, answer, settings }: WebPlace,
): Promise<Place> {
  const dir = tempDir(kind);
  let taken = 0;
  const server = await startScriptedServer((request) => {
    const answered = answer(request);
    if (answered.status < 300 && !answered.body?.includes('"ok":false')) taken++;
    return answered;
  });
  const file = secretIn(dir, 'secret', secret(server.url));
  return {
    kind,
    settings: { [secretSetting]: file, ...settings?.(server.url) },
    secrets: [file],
    reached: () => server.seen.length,
    taken: () => taken,
    be(mood) {
      server.mood = mood;
    },
    stop: async () => server[Symbol.asyncDispose](),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

async function mail(): Promise<Place> {
  const dir = tempDir('email');
  const host = await startMailHost({ login: { user: 'gpufleet', password: 'a password' } });
  const password = secretIn(dir, 'password', 'a password');
  return {
    kind: 'email',
    settings: {
      ...{ smarthost: `127.0.0.1:${host.port}`, tls: 'none', username: 'gpufleet', password_file: password },
      ...{ from: 'gpufleet@example.org', to: ['ops@example.org'] },
    },
    secrets: [password],
    reached: () => host.reached,
    taken: () => host.taken.length,
    be: (mood) => mailMood(host, mood),
    stop: async () => host[Symbol.asyncDispose](),
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

function mailMood(host: MailHost, mood: Mood): void {
  host.hang = mood === 'hang';
  host.message =
    mood === 'refuse'
      ? { code: 554, words: 'not from you' }
      : mood === 'busy' || mood === 'broken'
        ? { code: 451, words: 'later, please' }
        : undefined;
}
