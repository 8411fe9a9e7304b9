import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { TestAuthority } from '../../../../shared/security/certificates.ts';
import { skipLoudly } from '../../../../support/data.ts';
import { tempDir } from '../../../../support/temp.ts';
import { NOW, openReceiver, secretIn } from './places.ts';
import {
  AT,
  fullNotification,
  hostileNotification,
  sampleAlert,
  sampleNotification,
} from './sample-notification.ts';
import { startScriptedServer } from './scripted-server.ts';

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const SECRET = 'a signing secret';

/** As the documentation gives it to whoever receives our webhooks, and what runs it on one request. */
const VERIFY = `
import hashlib, hmac, time

def verify(header: str, body: bytes, secret: bytes, now: float | None = None, tolerance: int = 300) -> bool:
    fields = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.new(secret, fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    fresh = abs((time.time() if now is None else now) - int(fields["t"])) <= tolerance
    return fresh and hmac.compare_digest(expected, fields["v1"])

import sys
header, secret, now = sys.argv[1:]
print(verify(header, sys.stdin.buffer.read(), secret.encode(), float(now)))
`;

function verified(header: string, body: string, secret = SECRET, nowMs = NOW): string {
  return execFileSync('python3', ['-c', VERIFY, header, secret, String(nowMs / 1_000)], { input: body })
    .toString()
    .trim();
}

function hasPython(): boolean {
  if (process.env.CI || spawnSync('python3', ['--version']).status === 0) return true;
  skipLoudly('the check of webhook signatures: no python3');
  return false;
}

async function received(settings: object = {}, notification = sampleNotification()) {
  await using dir = tempDir('webhook');
  await using server = await startScriptedServer(() => ({ status: 204 }));
  const secret_file = secretIn(dir, 'secret', SECRET);
  await using receiver = await openReceiver('webhook', {
    url: `${server.url}/hook?a=b`,
    secret_file,
    ...settings,
  });
  expect(await receiver.send(notification, soon())).toEqual({ outcome: 'sent' });
  return server.seen[0]!;
}

describe('a webhook', () => {
  test('has every field of Alertmanager’s webhook: what people have written for that understands ours', async () => {
    const resolved = [sampleAlert({ gpu: '4', state: AlertState.RESOLVED, resolvedAtMs: AT + 1_000 })];
    const { path, body, headers } = await received({}, sampleNotification({ resolved, firingCount: 3 }));
    expect(path).toBe('/hook?a=b');
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'idempotency-key': 'notification-1',
    });
    expect(JSON.parse(body)).toEqual({
      ...{
        version: '4',
        groupKey: '0123456789abcdef',
        truncatedAlerts: 2,
        status: 'firing',
        receiver: 'on-call',
      },
      groupLabels: { cluster: 'alpha', rule: 'gpu-too-hot' },
      commonLabels: {
        ...{ cluster: 'alpha', node: 'gpu-017', gpu_model: 'NVIDIA H100', pool: 'train', rack: 'r7' },
        ...{ rule: 'gpu-too-hot', severity: 'warning' },
      },
      commonAnnotations: {
        ...{
          description: 'It is hot.',
          runbook_url: 'https://runbooks.example/hot',
          summary: 'GPU 3 is at 91 °C',
        },
      },
      externalURL: 'https://gpufleet.example/alerts?group=1',
      alerts: [
        expect.objectContaining({
          status: 'firing',
          labels: expect.objectContaining({
            alertname: 'gpu-too-hot',
            gpu: '3',
            gpu_uuid: 'GPU-gpu-017-3',
            pool: 'train',
          }),
          ...{
            startsAt: '2026-01-02T03:04:05.000Z',
            endsAt: '0001-01-01T00:00:00Z',
            fingerprint: 'gpu-017-3',
          },
          ...{ value: 91.5, threshold: 90, where: 'gpu-017 GPU 3', transition: 1, acknowledged: false },
        }),
        expect.objectContaining({ status: 'resolved', endsAt: '2026-01-02T03:04:06.000Z' }),
      ],
      ...{ notificationId: 'notification-1', cluster: 'alpha', severity: 'warning', kind: 'news', flaps: 0 },
      ...{ title: '1 GPU is too hot in alpha', text: 'gpu-017 GPU 3: 91 °C\nsince 03:04' },
      ...{ firingCount: 3, resolvedCount: 1, at: '2026-01-02T03:04:05.000Z' },
    });
  });

  test.skipIf(!hasPython())(
    'is signed so that Python can tell it from a forged, changed or recorded one',
    async () => {
      for (const notification of [sampleNotification(), hostileNotification(), fullNotification()]) {
        const { body, headers } = await received({}, notification);
        const header = String(headers['x-gpufleet-signature']);
        expect(header).toMatch(/^t=\d+,v1=[0-9a-f]{64}$/);
        expect(verified(header, body)).toBe('True');
        expect(verified(header, body.replace('firing', 'resolved'))).toBe('False');
        expect(verified(header, body, 'another secret')).toBe('False');
        expect(verified(header, body, SECRET, NOW + 600_000)).toBe('False');
      }
    },
  );

  test('is the same bytes at each try, and carries what the file asks for', async () => {
    const first = await received({ headers: { 'X-Team': 'gpu ops' } }, fullNotification());
    const second = await received({}, fullNotification());
    expect(second.body).toBe(first.body);
    expect(first.headers['x-team']).toBe('gpu ops');
  });

  test('is at most a million bytes, and says what it leaves out', async () => {
    const labels = Object.fromEntries(
      Array.from({ length: 16 }, (_, n) => [`label_${n}`, 'é'.repeat(4_096)]),
    );
    const firing = Array.from({ length: 50 }, (_, n) => sampleAlert({ node: `gpu-${n}`, labels }));
    const { body } = await received({}, sampleNotification({ firing }));
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(1_000_000);
    const { alerts, truncatedAlerts } = JSON.parse(body);
    expect(alerts.length).toBeGreaterThan(1);
    expect(alerts.length + truncatedAlerts).toBe(50);
  });

  test('goes to a URL that is a secret, with credentials from files, none of which is in a log', async () => {
    await using dir = tempDir('webhook');
    await using server = await startScriptedServer(({ path, headers }) => ({
      status: 401,
      body: `${path} ${headers.authorization}`,
    }));
    const url_file = secretIn(dir, 'url', `${server.url}/secret-path`);
    const password_file = secretIn(dir, 'password', 'pass-word');
    const settings = { url_file, basic_auth: { username: 'me', password_file } };
    await using receiver = await openReceiver('webhook', settings);
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({ outcome: 'refused' });
    const word = Buffer.from('me:pass-word').toString('base64');
    expect(server.seen[0]!.headers.authorization).toBe(`Basic ${word}`);
    expect(JSON.stringify(await receiver.send(sampleNotification(), soon()))).not.toContain(word);
  });

  test('follows no redirect: a secret must not travel on to where it was not meant for', async () => {
    await using other = await startScriptedServer(() => ({ status: 200 }));
    await using server = await startScriptedServer(() => ({ status: 307, headers: { location: other.url } }));
    await using receiver = await openReceiver('webhook', { url: server.url });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome: 'refused',
      why: 'it answered 307',
    });
    expect(other.seen).toHaveLength(0);
  });

  test('trusts the authority that the file names, and nobody else', async () => {
    await using authority = await TestAuthority.create();
    const { cert, key } = await authority.issue('hook', 'IP:127.0.0.1');
    const tls = { cert: readFileSync(cert), key: readFileSync(key) };
    await using server = await startScriptedServer(() => ({ status: 200 }), tls);
    await using trusting = await openReceiver('webhook', { url: server.url, ca_file: authority.ca });
    await using wary = await openReceiver('webhook', { url: server.url });
    expect(await trusting.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(await wary.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry' });
    await expect(openReceiver('webhook', { url: server.url, ca_file: '/nowhere.pem' })).rejects.toThrow(
      'Cannot read ca_file /nowhere.pem',
    );
  });
});
