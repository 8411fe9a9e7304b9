import { once } from 'node:events';
import { Agent, get } from 'node:http';
import { connect as http2 } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { connect as tls } from 'node:tls';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { Caller } from '#shared/security/tokens.ts';
import { seededRandom } from '../../support/random.ts';
import { until } from '../../support/wait.ts';
import { alertOf, FakeView, startApi } from './fake-view.ts';

const OPERATOR: Caller = { role: 'operator', name: '', node: undefined };
const asOperator = { access: { check: () => OPERATOR, anonymousRead: false } };
const RESOLVE = 'POST /api/v1/alerts/a/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer o\r\n';

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Everything until the other side closes, or until `enough`. */
async function readUntil(socket: Socket, enough: (text: string) => boolean): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => {
    text += String(chunk);
  });
  await until(() => enough(text) || socket.closed, { timeoutMs: 10_000, what: 'an answer or the end' });
  return text;
}

async function answers(url: string): Promise<void> {
  const response = await fetch(`${url}/api/v1/nodes`, { signal: AbortSignal.timeout(10_000) });
  expect(((await response.json()) as { total: number }).total).toBe(3);
}

// Whoever can reach the port can send these; the fleet's monitoring must not notice.
test('garbage, half a preface, a TLS hello and a byte at a time: the next one is answered as ever', async () => {
  await using server = await startApi();
  const next = seededRandom(7);
  const noise = Buffer.from(Array.from({ length: 4_096 }, () => Math.floor(next() * 256)));
  const sent: (string | Buffer)[] = [
    noise,
    'P',
    'PR',
    'PRI',
    'PRI * HTTP/2.0\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), noise]),
    'PRIVATE / HTTP/1.1\r\n\r\n',
    'GET',
    'GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n',
    'GET / HTTP/1.1\r\n\r\n',
    `GET / HTTP/1.1\r\nHost: ${'a'.repeat(100_000)}\r\n\r\n`,
    'POST /api/v1/nodes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
    'CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n',
    '\0'.repeat(1_000),
  ];
  for (const bytes of sent) {
    const [whole, cut] = await Promise.all([open(server.port), open(server.port)]);
    whole.write(bytes);
    cut.end(bytes);
    await answers(server.url);
    whole.resetAndDestroy();
    cut.destroy();
  }
  const hello = tls({ port: server.port, host: '127.0.0.1', rejectUnauthorized: false });
  await once(hello, 'error');
  const slow = await open(server.port);
  for (const byte of 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n') {
    slow.write(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await readUntil(slow, (text) => text.includes('ok\n'))).toMatch(/^HTTP\/1\.1 200/);
  slow.destroy();
  await answers(server.url);
});

test('a gRPC length prefix of 1 GB is refused before anything is kept, on its stream alone', async () => {
  await using server = await startApi();
  const session = http2(server.url);
  const before = process.memoryUsage().arrayBuffers;
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${FleetService.typeName}/ListNodes`,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(2 ** 30, 1);
  stream.write(prefix);
  let status: unknown;
  stream.on('response', (headers) => {
    status ??= headers['grpc-status'];
  });
  stream.on('trailers', (headers) => {
    status ??= headers['grpc-status'];
  });
  stream.on('error', () => {}).resume();
  await until(() => status !== undefined, { timeoutMs: 5_000, what: 'the stream is refused' });
  expect(status, 'RESOURCE_EXHAUSTED').toBe('8');
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
  const ping = session.request({ ':path': '/healthz' });
  const [headers] = await once(ping, 'response');
  expect(headers[':status']).toBe(200);
  session.destroy();
});

test('a REST body without end is refused at 64 KiB over HTTP/1.1 and HTTP/2, and its rest is not kept', async () => {
  const view = new FakeView();
  view.change(alertOf('a'));
  await using server = await startApi({ view, ...asOperator });
  const chunk = Buffer.alloc(16_384, 'x');
  const socket = await open(server.port);
  socket.write(`${RESOLVE}Transfer-Encoding: chunked\r\n\r\n`);
  const pour = setInterval(() => socket.write(`4000\r\n${chunk}\r\n`), 1);
  try {
    const text = await readUntil(socket, (seen) => seen.includes('larger than 65536'));
    expect(text).toMatch(/^HTTP\/1\.1 400/);
  } finally {
    clearInterval(pour);
    socket.destroy();
  }
  const session = http2(server.url);
  const stream = session.request(
    { ':method': 'POST', ':path': '/api/v1/alerts/a/resolve', authorization: 'Bearer o' },
    { endStream: false },
  );
  stream.on('error', () => {});
  const flood = setInterval(() => stream.writable && stream.write(chunk), 1);
  try {
    const [headers] = await once(stream, 'response');
    expect(headers[':status']).toBe(400);
    stream.resume();
    await until(() => stream.closed, { timeoutMs: 5_000, what: 'the server ends the stream' });
  } finally {
    clearInterval(flood);
    session.destroy();
  }
  await answers(server.url);
});

test('a connection that was refused a body can be used again', async () => {
  await using server = await startApi({ ...asOperator });
  const socket = await open(server.port);
  socket.write(`${RESOLVE}Content-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`);
  await readUntil(socket, (text) => text.includes('larger than'));
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  expect(await readUntil(socket, (text) => text.includes('ok\n'))).toContain('ok\n');
  socket.destroy();
});

test('a request that does not arrive in time is ended: headers or body, whichever is withheld', async () => {
  await using server = await startApi({ ...asOperator, requestMs: 300 });
  for (const part of ['GET / HTTP/1.1\r\nHost: loc', `${RESOLVE}Content-Length: 10\r\n\r\n{`]) {
    const socket = await open(server.port);
    socket.write(part);
    const drip = setInterval(() => socket.write('a'), 50);
    await readUntil(socket, (text) => text.includes('408')).finally(() => clearInterval(drip));
    await until(() => socket.destroyed, { timeoutMs: 5_000, what: 'the connection is closed' });
  }
  await answers(server.url);
});

test('clients that go in the middle of their requests leave no error behind', async () => {
  const errors: unknown[] = [];
  const logger = { info: () => {}, error: (...what: unknown[]) => errors.push(what) };
  await using server = await startApi({ ...asOperator, logger: logger as never });
  for (let n = 0; n < 20; n++) {
    const socket = await open(server.port);
    socket.write(`${RESOLVE}Content-Length: 1000\r\n\r\n{"comment":`);
    await new Promise((resolve) => setTimeout(resolve, 5));
    socket.resetAndDestroy();
    const session = http2(server.url).on('error', () => {});
    const stream = session.request({ ':path': '/api/v1/nodes' }).on('error', () => {});
    stream.close(8);
    session.destroy();
  }
  await answers(server.url);
  expect(errors).toEqual([]);
});

test('with 1,000 connections that say nothing it answers, and a stop does not wait for them', async () => {
  const server = await startApi();
  const idle: Socket[] = [];
  try {
    for (let batch = 0; batch < 10; batch++)
      idle.push(...(await Promise.all(Array.from({ length: 100 }, () => open(server.port)))));
    await answers(server.url);
    const client = createClient(FleetService, createGrpcTransport({ baseUrl: server.url }));
    expect((await client.listNodes({})).total).toBe(3);
    await server[Symbol.asyncDispose]();
    await until(() => idle.every((socket) => socket.closed), { timeoutMs: 5_000, what: 'all are closed' });
  } finally {
    for (const socket of idle) socket.destroy();
  }
});

test('a stop ends whatever is open, leaves the port free, and is one stop however often it is asked for', async () => {
  const view = new FakeView();
  const server = await startApi({ view, ...asOperator });
  const headers = { authorization: 'Bearer o' };
  const half = await open(server.port);
  half.resume().write(`${RESOLVE}Content-Length: 10\r\n\r\n{`);
  const preface = await open(server.port);
  preface.resume().write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const agent = new Agent({ keepAlive: true });
  await new Promise<void>((resolve, reject) => {
    get(`${server.url}/healthz`, { agent }, (response) => response.resume().once('end', resolve)).once(
      'error',
      reject,
    );
  });
  const client = createClient(FleetService, createGrpcTransport({ baseUrl: server.url }));
  const watch = client.watchAlerts({}, { headers })[Symbol.asyncIterator]().next();
  watch.catch(() => {});
  await until(() => view.listeners.size === 1, { timeoutMs: 5_000, what: 'it watches' });

  const first = server[Symbol.asyncDispose]();
  let done = false;
  void first.then(() => {
    done = true;
  });
  await server[Symbol.asyncDispose]();
  expect(done, 'a second caller waits for the first').toBe(true);
  await server[Symbol.asyncDispose]();
  await expect(watch).rejects.toThrow();
  await until(() => half.closed && preface.closed, { timeoutMs: 5_000, what: 'both are closed' });
  const again = createServer().listen(server.port, '127.0.0.1');
  await once(again, 'listening');
  again.close();
  agent.destroy();
});

test('kept connections that are idle end at once: a restart does not wait for a console', async () => {
  const server = await startApi();
  const agent = new Agent({ keepAlive: true });
  const socket = await new Promise<Socket>((resolve, reject) => {
    get(`${server.url}/healthz`, { agent }, (response) => {
      const { socket: kept } = response;
      response.resume().once('end', () => resolve(kept));
    }).once('error', reject);
  });
  await server[Symbol.asyncDispose]();
  await until(() => socket.closed, { timeoutMs: 5_000, what: 'it is closed' });
  agent.destroy();
});

test('a port that is taken is one clear sentence with the setting to change', async () => {
  await using server = await startApi();
  await expect(startApi({ listen: { host: '127.0.0.1', port: server.port } })).rejects.toMatchObject({
    code: 'unavailable',
    message: `Cannot listen on 127.0.0.1:${server.port}: is the port taken? Choose another with api.listen`,
  });
});
