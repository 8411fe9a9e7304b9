import { readFile } from 'node:fs/promises';
import { get } from 'node:https';
import { connect, Server } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { readListenerTls } from '#shared/security/listener-tls.ts';
import { Exporter, type ExporterOptions } from '../../../agent/expose/exporter.ts';
import { hashPassword } from '../../../agent/expose/password.ts';
import { TestAuthority } from '../../shared/security/certificates.ts';
import { until } from '../../support/wait.ts';

const options = (overrides: Partial<ExporterOptions> = {}): ExporterOptions => ({
  listen: { host: '127.0.0.1', port: 0 },
  metricsPath: '/metrics',
  metrics: async () => 'm 1\n',
  notReady: () => undefined,
  logger: silentLogger,
  ...overrides,
});

describe('the endpoint', () => {
  test('metrics, health, readiness, and clear answers to everything else', async () => {
    let reason: string | undefined = 'nothing read yet';
    await using exporter = await Exporter.listen(options({ metricsPath: '/gpu', notReady: () => reason }));
    const base = `http://127.0.0.1:${exporter.address!.port}`;
    const get = async (path: string, method = 'GET') => {
      const response = await fetch(`${base}${path}`, { method });
      return [response.status, await response.text()];
    };
    expect(await get('/gpu?x=1')).toEqual([200, 'm 1\n']);
    expect(await get('/healthz')).toEqual([200, 'ok\n']);
    expect(await get('/readyz')).toEqual([503, 'nothing read yet\n']);
    reason = undefined;
    expect(await get('/readyz')).toEqual([200, 'ready\n']);
    expect((await get('/metrics'))[0]).toBe(404);
    expect((await get('/gpu', 'POST'))[0]).toBe(405);
    expect(await get('/gpu', 'HEAD')).toEqual([200, '']);
  });

  test('a port that is taken moves on to the next, and two that are taken stop nothing', async () => {
    // Two neighbouring ports; another process may take the second in between, so look for a pair that is free.
    for (let attempt = 0; ; attempt++) {
      await using first = await Exporter.listen(options());
      const listen = { host: '127.0.0.1', port: first.address!.port };
      await using second = await Exporter.listen(options({ listen }));
      if (second.address === undefined && attempt < 20) continue;
      expect(second.address!.port).toBe(listen.port + 1);
      await using third = await Exporter.listen(options({ listen }));
      expect(third.address).toBeUndefined();
      return;
    }
  });
});

describe('clients that do harm', () => {
  // Lost without it: a few scrapers that hang take every connection, and the node's metrics are dark until a restart.
  test('one that never reads its answer is cut off', async () => {
    const metrics = async () => 'm 1\n'.repeat(4_000_000);
    const listen = vi.spyOn(Server.prototype, 'listen');
    await using exporter = await Exporter.listen(options({ metrics, idleMs: 100 }));
    const server = listen.mock.contexts.at(-1) as Server;
    listen.mockRestore();
    const socket = connect(exporter.address!.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n');
    socket.pause();
    const connections = () => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
    await until(async () => (await connections()) === 1, { timeoutMs: 5_000, what: 'it is there' });
    await until(async () => (await connections()) === 0, { timeoutMs: 5_000, what: 'it is cut off' });
    socket.destroy();
  });

  // Lost without it: a connection that cannot be taken (no file descriptor left) ends the agent.
  test('a connection that cannot be taken stops nothing', async () => {
    const listen = vi.spyOn(Server.prototype, 'listen');
    await using exporter = await Exporter.listen(options());
    const server = listen.mock.contexts.at(-1) as Server;
    listen.mockRestore();
    server.emit('error', new Error('accept EMFILE'));
    expect((await fetch(`http://127.0.0.1:${exporter.address!.port}/healthz`)).status).toBe(200);
  });
});

describe('who may read', () => {
  const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` });

  // Lost without it: metrics of a node are open to everybody, or closed to the one scraper that should have them.
  test('with users, metrics ask for a password and probes do not; a new set of users counts at once', async () => {
    const users = { prometheus: await hashPassword('right') };
    await using exporter = await Exporter.listen(options({ access: { users, tls: undefined } }));
    const base = `http://127.0.0.1:${exporter.address!.port}`;
    const status = async (path: string, headers = {}) => (await fetch(`${base}${path}`, { headers })).status;
    const denied = await fetch(`${base}/metrics`);
    expect([denied.status, denied.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringMatching(/^Basic /),
    ]);
    expect(await denied.text()).not.toContain('m 1');
    expect(await status('/metrics', basic('prometheus:wrong'))).toBe(401);
    expect(await status('/metrics', basic('nobody:right'))).toBe(401);
    expect(await status('/metrics', { authorization: 'Bearer right' })).toBe(401);
    expect(await status('/metrics', basic('prometheus:right'))).toBe(200);
    expect(await status('/metrics', basic('prometheus:right'))).toBe(200);
    expect(await status('/nowhere', basic('prometheus:right'))).toBe(404);
    expect(await Promise.all([status('/healthz'), status('/readyz')])).toEqual([200, 200]);
    exporter.setAccess({ users: { other: await hashPassword('new') }, tls: undefined });
    expect(await status('/metrics', basic('prometheus:right'))).toBe(401);
    expect(await status('/metrics', basic('other:new'))).toBe(200);
    exporter.setAccess({ users: {}, tls: undefined });
    expect(await status('/metrics')).toBe(200);
  });

  // Lost without it: a flood of wrong passwords takes 16 MiB each until the agent is over its memory limit.
  test('passwords are tried two at a time; the rest is told to come again', async () => {
    const users = { prometheus: await hashPassword('right') };
    await using exporter = await Exporter.listen(options({ access: { users, tls: undefined } }));
    const url = `http://127.0.0.1:${exporter.address!.port}/metrics`;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => fetch(url, { headers: basic(`prometheus:wrong${i}`) })),
    );
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses).isSubsetOf(new Set([401, 429]))).toBe(true);
    expect(statuses).toContain(429);
    expect((await fetch(url, { headers: basic('prometheus:right') })).status).toBe(200);
  });

  test('over TLS, and with a renewed certificate without a restart; OpenMetrics for who asks for it', async () => {
    await using one = await TestAuthority.create();
    await using two = await TestAuthority.create();
    const [first, second] = [await certificateOf(one), await certificateOf(two)];
    const metrics = async (format: string) => (format === 'openmetrics' ? '# EOF\n' : 'm 1\n');
    await using exporter = await Exporter.listen(options({ metrics, access: { users: {}, tls: first.tls } }));
    const { port } = exporter.address!;
    const plain = await getTls(port, first.ca, 'text/plain');
    expect(plain).toMatchObject({
      status: 200,
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: 'm 1\n',
    });
    const open = await getTls(port, first.ca, 'application/openmetrics-text; version=1.0.0');
    expect(open).toMatchObject({
      type: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
      body: '# EOF\n',
    });
    await expect(getTls(port, second.ca, '*/*')).rejects.toThrow();
    exporter.setAccess({ users: {}, tls: second.tls });
    expect((await getTls(port, second.ca, '*/*')).status).toBe(200);
    await expect(fetch(`http://127.0.0.1:${port}/metrics`)).rejects.toThrow();
  });
});

/** A certificate of an authority of its own, and that authority. */
async function certificateOf(authority: TestAuthority) {
  const tls = await readListenerTls(await authority.issue('agent', 'IP:127.0.0.1'));
  return { tls, ca: await readFile(authority.ca) };
}

function getTls(port: number, ca: Buffer, accept: string) {
  return new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
    const asked = get(
      { host: '127.0.0.1', port, path: '/metrics', ca, headers: { accept }, agent: false },
      (response) => {
        let body = '';
        response.on('data', (chunk) => {
          body += chunk;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode!, type: response.headers['content-type']!, body }),
        );
      },
    );
    asked.on('error', reject);
  });
}
