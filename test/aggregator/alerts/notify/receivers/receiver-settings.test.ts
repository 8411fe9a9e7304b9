import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { RECEIVER_KINDS } from '../../../../../aggregator/alerts/notify/receivers/registry.ts';

const RIGHT: Readonly<Record<string, object>> = {
  slack: { webhook_url_file: '/run/secrets/slack' },
  email: { smarthost: 'mail:25', from: 'a@example.org', to: ['b@example.org'] },
  pagerduty: { routing_key_file: '/run/secrets/key' },
  webhook: { url: 'https://hook.example/' },
  alertmanager: { urls: ['http://alertmanager:9093'] },
};

function faults(kind: string, settings: object): string {
  const { issues = [] } = v.safeParse(RECEIVER_KINDS[kind]!.schema, settings);
  return issues.map((issue) => `${v.getDotPath(issue)}: ${issue.message}`).join('\n');
}

describe.each(Object.entries(RIGHT))('settings of %s', (kind, right) => {
  test('need no more than they must, and have the defaults of the documentation', () => {
    expect(v.parse(RECEIVER_KINDS[kind]!.schema, right)).toMatchObject({
      ...{ send_resolved: true, rate_limit: { count: 30, windowMs: 60_000 }, timeout: 10_000 },
    });
  });

  test.each([
    [{ send_resolved: 'no' }, 'send_resolved: must be true or false'],
    [
      { rate_limit: '30' },
      'rate_limit: must be a count and a time from 1s to 24h, such as 30/1m, and is "30"',
    ],
    [{ rate_limit: '0/1m' }, 'rate_limit: must be'],
    [{ rate_limit: '5/48h' }, 'rate_limit: must be'],
    [{ timeout: '1ms' }, 'timeout: must be between 100ms and 5m'],
    [{ tiemout: '1s' }, 'tiemout: '],
  ])('%o is a fault that says where: a typo must not be a silent default', (more, words) => {
    expect(faults(kind, { ...right, ...more })).toContain(words);
  });
});

test.each([
  ['slack', {}, 'give webhook_url_file or bot_token_file'],
  [
    'slack',
    { webhook_url_file: '/a', bot_token_file: '/b', channel: '#c' },
    'give webhook_url_file or bot_token_file',
  ],
  ['slack', { bot_token_file: '/b' }, 'bot_token_file needs a channel'],
  ['slack', { webhook_url: 'https://hooks.slack.com/x' }, 'webhook_url'],
  ['pagerduty', { routing_key: 'in the open' }, 'routing_key'],
  ['webhook', {}, 'give url or url_file'],
  ['webhook', { url: 'https://me:secret@hook.example/' }, 'must not hold a user or password'],
  ['webhook', { url: 'ftp://hook.example/' }, 'must be an http:// or https:// URL'],
  [
    'webhook',
    { url: 'https://a.example', headers: { Authorization: 'Bearer x' } },
    'credentials belong into',
  ],
  ['webhook', { url: 'https://a.example', headers: { 'X-A': 'a\r\nX-B: b' } }, 'must be 1 to 1024 printable'],
  ['webhook', { url: 'https://a.example', headers: { 'X A': 'a' } }, 'is not a header name'],
  ['alertmanager', { urls: [] }, 'must be at least one URL'],
  ['alertmanager', { urls: ['http://a'], refresh: '10ms' }, 'must be between 1s and 1h'],
  [
    'alertmanager',
    { urls: ['http://a'], bearer_token_file: '/t', basic_auth: { username: 'u', password_file: '/p' } },
    'give basic_auth or bearer_token_file, not both',
  ],
])('%s with %o is refused before it could be needed', (kind, settings, words) => {
  expect(faults(kind, settings)).toContain(words);
});
