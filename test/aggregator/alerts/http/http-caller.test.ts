import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { HttpCaller, retryAfterMs } from '../../../../aggregator/alerts/http/http-caller.ts';
import { TestAuthority } from '../../../shared/security/certificates.ts';
import { NOW } from '../notify/receivers/places.ts';
import { startScriptedServer } from '../notify/receivers/scripted-server.ts';

const clock = { now: () => NOW, monotonic: () => performance.now() };
const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const callers: HttpCaller[] = [];

function caller(settings = {}): HttpCaller {
  const made = new HttpCaller(settings, clock);
  callers.push(made);
  return made;
}

afterEach(async () => {
  for (const made of callers.splice(0)) await made.close();
});

describe('what an answer means', () => {
  test.each([
    ...[200, 201, 202, 204].map((status) => [status, 'sent'] as const),
    ...[301, 307, 400, 401, 403, 404, 410, 413, 422].map((status) => [status, 'refused'] as const),
    ...[408, 429, 500, 502, 503, 504].map((status) => [status, 'retry'] as const),
  ])('%i is %s', async (status, outcome) => {
    await using server = await startScriptedServer(() => ({ status }));
    const { delivery } = await caller().post({ url: server.url, body: '{}', signal: soon() });
    expect(delivery.outcome).toBe(outcome);
  });

  test.each([
    ['0', 0],
    ['120', 120_000],
    ['1.5', 1_500],
    ['99999999', 3_600_000],
    [new Date(NOW + 90_000).toUTCString(), 90_000],
    [new Date(NOW - 90_000).toUTCString(), 0],
    ['soon', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('Retry-After %o is %o ms: neither sooner than asked for nor never', (value, expected) => {
    const ms = retryAfterMs(value, NOW);
    if (expected === undefined) expect(ms).toBeUndefined();
    else expect(Math.abs(ms! - expected)).toBeLessThan(1_000);
  });
});

test('an answer without end is cut: a hostile server must not fill our memory', async () => {
  const server = createServer((_, response) => {
    response.writeHead(500);
    const pour = (): void => {
      while (!response.destroyed && response.write('x'.repeat(65_536)));
    };
    response.on('drain', pour);
    pour();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { delivery, text } = await caller().post({ url, body: '{}', signal: soon() });
    expect(text.length).toBe(65_536);
    expect(delivery).toMatchObject({ outcome: 'retry' });
    expect(JSON.stringify(delivery).length).toBeLessThan(300);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('a message that was taken is not sent twice because the rest of the answer broke off', async () => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      response.writeHead(202, { 'content-length': '100' }).write('accep');
      setImmediate(() => response.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { delivery } = await caller().post({ url, body: '{}', signal: soon() });
    expect(delivery).toEqual({ outcome: 'sent' });
  } finally {
    server.close();
  }
});

test('goes through a proxy where there is no other way out', async () => {
  await using authority = await TestAuthority.create();
  const { cert, key } = await authority.issue('hook', 'IP:127.0.0.1');
  const tls = { cert: readFileSync(cert), key: readFileSync(key) };
  await using target = await startScriptedServer(() => ({ status: 200 }), tls);
  const asked: string[] = [];
  const proxy = createServer().on('connect', (request, socket) => {
    asked.push(request.url ?? '');
    const [host, port] = (request.url ?? '').split(':');
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  try {
    const proxy_url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const { delivery } = await caller({ proxy_url, ca_file: authority.ca }).post({
      url: target.url,
      body: '{}',
      signal: soon(),
    });
    expect(delivery).toEqual({ outcome: 'sent' });
    expect(asked).toEqual([new URL(target.url).host]);
  } finally {
    proxy.close();
  }
});

test('opens a connection for each message: one that the other side has closed meanwhile fails nothing', async () => {
  let connections = 0;
  const server = createTcpServer((socket) => {
    connections++;
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const one = caller();
    for (let n = 0; n < 3; n++)
      expect((await one.post({ url, body: '{}', signal: soon() })).delivery).toEqual({ outcome: 'sent' });
    expect(connections).toBe(3);
  } finally {
    server.close();
  }
});
