import { request } from 'node:http';
import { connect } from 'node:http2';
import { expect, test } from 'vitest';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { startApi } from './fake-view.ts';

const guard = {
  allowedHosts: ['fleet.example', 'other.example:9000'],
  allowedOrigins: ['https://console.example'],
};
const METHOD = `/${FleetService.typeName}/ListNodes`;

interface Sent {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
}

/** fetch() does not let one set Host or Origin. */
function send(
  port: number,
  { method = 'GET', path = '/api/v1/nodes', body = Buffer.alloc(0), ...headers }: Record<string, unknown>,
): Promise<Sent> {
  return new Promise((resolve, reject) => {
    request(
      {
        port,
        host: '127.0.0.1',
        method: String(method),
        path: String(path),
        headers: headers as NodeJS.Dict<string>,
      },
      (response) => {
        response.resume();
        response.once('end', () => resolve({ status: response.statusCode!, headers: response.headers }));
      },
    )
      .once('error', reject)
      .end(body as Buffer);
  });
}

/** The same call in each dialect that a browser can speak. */
const DIALECTS = {
  REST: {},
  Connect: { method: 'POST', path: METHOD, 'content-type': 'application/json', body: Buffer.from('{}') },
  'gRPC-Web': {
    method: 'POST',
    path: METHOD,
    'content-type': 'application/grpc-web+proto',
    body: Buffer.alloc(5),
  },
} as const;

// Without these checks any page that an administrator looks at could read the fleet or resolve its alerts.
test.each(Object.entries(DIALECTS))(
  '%s: a Host that is not ours is refused, ours pass',
  async (_, dialect) => {
    await using server = await startApi({ guard });
    const status = async (host: string) => (await send(server.port, { ...dialect, host })).status;
    const { port } = server;
    for (const host of [
      `localhost:${port}`,
      `LocalHost:${port}`,
      'localhost',
      `127.0.0.1:${port}`,
      '[::1]',
      `[::1]:${port}`,
      '10.0.0.7',
      'fleet.example',
      `fleet.example:${port}`,
      'FLEET.example',
      'other.example:9000',
    ])
      expect(await status(host), host).toBe(200);
    for (const host of [
      'attacker.example',
      `attacker.example:${port}`,
      'localhost.attacker.example',
      '127.0.0.1.attacker.example',
      'fleet.example.attacker.example',
      'xfleet.example',
      'other.example',
      '[::1',
      '[evil]',
      'localhost@attacker.example',
      'localhost:99999',
      'localhost:http',
      'localhost:80:80',
      '127.0.0.1/x',
      'local host',
    ])
      expect(await status(host), host).toBe(403);
  },
);

test.each(Object.entries(DIALECTS))(
  '%s: a page of a foreign Origin is refused, ours pass',
  async (_, dialect) => {
    await using server = await startApi({ guard });
    const host = `localhost:${server.port}`;
    const status = async (origin: string) => (await send(server.port, { ...dialect, host, origin })).status;
    for (const origin of [`http://${host}`, 'https://console.example'])
      expect(await status(origin), origin).toBe(200);
    for (const origin of [
      'http://attacker.example',
      'http://localhost',
      `http://127.0.0.1:${server.port}`,
      'https://console.example.attacker.example',
      'https://console.example:444',
      'http://console.example',
      'null',
      '',
      'not a url',
    ])
      expect(await status(origin), origin).toBe(403);
  },
);

test('over HTTP/2 the authority counts as Host', async () => {
  await using server = await startApi({ guard });
  const session = connect(server.url);
  const status = (headers: object): Promise<number> =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': '/api/v1/nodes', ...headers });
      stream.once('response', (answer) => resolve(Number(answer[':status'])));
      stream.once('error', reject).resume().end();
    });
  try {
    expect(await status({})).toBe(200);
    expect(await status({ ':authority': 'attacker.example' })).toBe(403);
    expect(await status({ ':authority': 'attacker.example', host: 'localhost' })).toBe(403);
    expect(await status({ origin: 'http://attacker.example' })).toBe(403);
  } finally {
    session.destroy();
  }
});

test('a page of a configured origin gets the headers that its browser asks for; a foreign one gets none', async () => {
  await using server = await startApi({ guard });
  const preflight = (origin: string) =>
    send(server.port, {
      method: 'OPTIONS',
      path: METHOD,
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,x-grpc-web',
    });
  const ours = await preflight('https://console.example');
  expect(ours.status).toBe(204);
  expect(ours.headers['access-control-allow-origin']).toBe('https://console.example');
  expect(ours.headers['access-control-allow-methods']).toContain('POST');
  for (const name of ['authorization', 'content-type', 'x-grpc-web', 'connect-protocol-version'])
    expect(String(ours.headers['access-control-allow-headers']).toLowerCase().split(', ')).toContain(name);
  const foreign = await preflight('https://attacker.example');
  expect([foreign.status, foreign.headers['access-control-allow-origin']]).toEqual([403, undefined]);
  for (const dialect of Object.values(DIALECTS)) {
    const answer = await send(server.port, { ...dialect, origin: 'https://console.example' });
    expect(answer.headers['access-control-allow-origin']).toBe('https://console.example');
    expect(answer.headers.vary).toBe('Origin');
  }
  const without = await send(server.port, {});
  expect(without.headers['access-control-allow-origin']).toBeUndefined();
});
