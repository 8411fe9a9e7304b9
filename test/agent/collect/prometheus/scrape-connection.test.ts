import { getEventListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Scraper } from '../../../../agent/collect/prometheus/scrape.ts';
import { TestAuthority } from '../../../shared/security/certificates.ts';
import { until } from '../../../support/wait.ts';
import { PageServer } from './page-server.ts';
import { ok, RawServer } from './raw-server.ts';

const never = new AbortController().signal;
let raw: RawServer;

beforeEach(async () => {
  raw = await RawServer.listen();
});
afterEach(async () => {
  await raw[Symbol.asyncDispose]();
});

const textOf = async (scraper: Scraper, signal = never): Promise<string> =>
  String(await scraper.fetch(signal));
const unavailable = (cause?: RegExp) => ({
  code: 'unavailable',
  ...(cause && { cause: expect.objectContaining({ message: expect.stringMatching(cause) }) }),
});

describe('a request', () => {
  test('says what a server needs to know, and no more', async () => {
    raw.answer = ok('up 1\n');
    await using scraper = new Scraper({
      url: `http://me:pw@127.0.0.1:${raw.port}/a%20b c?x=ä#y`,
      authorization: async () => 'Bearer s3cret',
    });
    expect(await textOf(scraper)).toBe('up 1\n');
    expect(raw.requests[0]!.split('\r\n')).toEqual([
      'GET /a%20b%20c?x=%C3%A4 HTTP/1.1',
      `Host: 127.0.0.1:${raw.port}`,
      'Connection: keep-alive',
      'Accept: text/plain;version=0.0.4,*/*;q=0.1',
      'Authorization: Bearer s3cret',
      '',
      '',
    ]);
  });

  test('takes gzip from other machines', async () => {
    await using server = await PageServer.listen();
    server.page = (request, response) => {
      const { 'accept-encoding': accepted } = request.headers;
      response.setHeader('content-encoding', 'gzip').end(gzipSync(`${accepted}`));
    };
    await using scraper = new Scraper({ url: server.url.replace('127.0.0.1', '0.0.0.0') });
    expect(await textOf(scraper)).toBe('gzip');
  });

  test('goes to names, and to addresses of IPv6', async () => {
    await using six = await RawServer.listen('::1').catch(() => undefined);
    raw.answer = ok('four');
    await using named = new Scraper({ url: `http://localhost:${raw.port}/` });
    expect(await textOf(named)).toBe('four');
    if (six === undefined) return;
    six.answer = ok('six');
    await using addressed = new Scraper({ url: `http://[::1]:${six.port}/` });
    expect(await textOf(addressed)).toBe('six');
    expect(six.requests[0]).toContain(`\r\nHost: [::1]:${six.port}\r\n`);
  });

  // Lost without it: a file of secrets with a line end writes headers, or the secret is in the log.
  test('carries no line end in its authorization, and does not show it', async () => {
    await using scraper = new Scraper({ url: raw.url, authorization: async () => 'Bearer a\r\nX: s3cret' });
    const failure = await scraper.fetch(never).catch((error: unknown) => error);
    expect(failure).toMatchObject(unavailable(/^the authorization is not one line of latin1$/));
    expect(raw.connections).toHaveLength(0);
  });

  test('is one at a time', async () => {
    raw.answer = (socket) => setImmediate(() => socket.write(ok('a')));
    await using scraper = new Scraper({ url: raw.url });
    const first = scraper.fetch(never);
    await expect(scraper.fetch(never)).rejects.toMatchObject({ code: 'internal' });
    expect(String(await first)).toBe('a');
  });

  test('is not sent after its signal aborted', async () => {
    await using scraper = new Scraper({ url: raw.url });
    await expect(scraper.fetch(AbortSignal.abort())).rejects.toMatchObject(
      unavailable(/^no answer in time$/),
    );
    expect(raw.requests).toEqual([]);
  });
});

describe('a connection is kept', () => {
  const pages: Readonly<Record<string, PageServer['page']>> = {
    'a length': 'up 1\n',
    chunks: (_, response) => {
      response.write('up');
      setImmediate(() => response.end(' 1\n'));
    },
    gzip: (_, response) => response.setHeader('content-encoding', 'gzip').end(gzipSync('up 1\n')),
    'hints before': (_, response) => {
      response.writeProcessing();
      response.writeEarlyHints({ link: '</a>; rel=preload' }, () => response.end('up 1\n'));
    },
  };

  test.each(Object.entries(pages))('after an answer with %s', async (_, page) => {
    await using server = await PageServer.listen();
    const sockets = new Set<Socket>();
    server.page = (request, response) => {
      sockets.add(request.socket);
      if (typeof page === 'function') page(request, response);
      else response.end(page);
    };
    await using scraper = new Scraper({ url: server.url });
    for (let i = 0; i < 3; i++) expect(await textOf(scraper)).toBe('up 1\n');
    expect([server.requests, sockets.size]).toEqual([3, 1]);
  });

  test.each([
    ['that says so', ok('a', 'Connection: close\r\n')],
    ['of HTTP/1.0', ok('a').replace('1.1', '1.0')],
    ['with more bytes than its own', `${ok('a')}${ok('b')}`],
    ['with a length and chunks', ok('1\r\na\r\n0\r\n\r\n', 'Transfer-Encoding: chunked\r\n')],
  ])('but not after an answer %s', async (_, answer) => {
    raw.answer = answer;
    await using scraper = new Scraper({ url: raw.url });
    for (let i = 0; i < 3; i++) expect(await textOf(scraper)).toBe('a');
    expect([raw.requests.length, raw.connections.length]).toEqual([3, 3]);
  });

  test('but not one whose end is the end of the body', async () => {
    raw.answer = (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nup 1\n');
    await using scraper = new Scraper({ url: raw.url });
    for (let i = 0; i < 3; i++) expect(await textOf(scraper)).toBe('up 1\n');
    expect(raw.connections).toHaveLength(3);
  });

  // Lost without it: an answer that nobody asked for is taken for the next, and every later one is a scrape late.
  test('but not one on which bytes come that nobody asked for', async () => {
    raw.answer = ok('first');
    await using scraper = new Scraper({ url: raw.url });
    expect(await textOf(scraper)).toBe('first');
    raw.connections[0]!.write(ok('stale'));
    await until(() => raw.connections[0]!.destroyed, { timeoutMs: 5000, what: 'the connection to be ended' });
    raw.answer = ok('second');
    expect(await textOf(scraper)).toBe('second');
  });

  test('and left to no signal once the answer is there', async () => {
    raw.answer = ok('a');
    const { signal } = new AbortController();
    await using scraper = new Scraper({ url: raw.url });
    await scraper.fetch(signal);
    await scraper.fetch(signal);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    raw.answer = (socket) => socket.destroy();
    await expect(scraper.fetch(signal)).rejects.toMatchObject(unavailable());
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test('without keeping the process alive', async () => {
    await until(() => sockets() === 0, {
      timeoutMs: 5000,
      what: 'the connections of other tests to be gone',
    });
    const asking: number[] = [];
    raw.answer = (socket) => {
      socket.unref();
      asking.push(sockets());
      socket.write(ok('a'));
    };
    await using scraper = new Scraper({ url: raw.url });
    for (let i = 0; i < 3; i++) {
      await scraper.fetch(never);
      expect(sockets()).toBe(0);
    }
    expect(asking).toEqual([1, 1, 1]);
  });
});

const sockets = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;

describe('a kept connection that the other side closed', () => {
  test('before the next request costs nothing', async () => {
    raw.answer = ok('a');
    await using scraper = new Scraper({ url: raw.url });
    await scraper.fetch(never);
    raw.connections[0]!.end();
    await until(() => raw.connections[0]!.destroyed, { timeoutMs: 5000, what: 'both sides to have closed' });
    expect(await textOf(scraper)).toBe('a');
    expect(raw.connections).toHaveLength(2);
  });

  test.each([
    ['closed', (socket: Socket) => socket.end()],
    ['reset', (socket: Socket) => socket.resetAndDestroy()],
  ])('just as it is used, %s, is replaced once', async (_, close) => {
    raw.answer = ok('a');
    await using scraper = new Scraper({ url: raw.url });
    await scraper.fetch(never);
    raw.answer = (socket) => {
      if (socket === raw.connections[0]) close(socket);
      else socket.write(ok('b'));
    };
    expect(await textOf(scraper)).toBe('b');
    raw.answer = close;
    await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable());
    // The third fetch asks twice: over the kept connection, and over a new one.
    expect([raw.requests.length, raw.connections.length]).toEqual([5, 3]);
  });

  test('in the middle of an answer is a failure', async () => {
    raw.answer = ok('a');
    await using scraper = new Scraper({ url: raw.url });
    await scraper.fetch(never);
    raw.answer = (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Le');
    await expect(scraper.fetch(never)).rejects.toMatchObject(
      unavailable(/closed in the middle of the answer/),
    );
    expect(raw.requests).toHaveLength(2);
  });
});

describe('a scrape fails, and the next does not, after', () => {
  const failures: Readonly<
    Record<
      string,
      readonly [
        RawServer['answer'],
        expected: { readonly message?: RegExp; readonly [more: string]: unknown },
      ]
    >
  > = {
    'no answer': [(socket) => socket.end(), unavailable(/^the connection was closed without an answer$/)],
    'a reset': [(socket) => socket.resetAndDestroy(), unavailable(/ECONNRESET/)],
    'a reset in the middle of the body': [
      (socket) => socket.write(ok('abc').slice(0, -1), () => socket.resetAndDestroy()),
      unavailable(/ECONNRESET/),
    ],
    'half a body': [
      (socket) => socket.end(ok('abc').slice(0, -1)),
      unavailable(/in the middle of the answer/),
    ],
    'half of the chunks': [
      (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'),
      unavailable(/in the middle of the answer/),
    ],
    'what is no HTTP': ['SSH-2.0-OpenSSH_9.2\r\n', unavailable(/status line .*OpenSSH/)],
    'a head without an end': [
      (socket) => {
        const more = (): boolean => !socket.destroyed && socket.write('A: b\r\n'.repeat(1000), () => more());
        socket.write('HTTP/1.1 200 OK\r\n', () => more());
      },
      unavailable(/^its headers are larger than 16384 bytes$/),
    ],
    'two lengths': [ok('abc', 'Content-Length: 2\r\n'), unavailable(/content length/)],
    'another protocol': ['HTTP/1.1 101 Switching Protocols\r\n\r\n', { message: /it answered 101$/ }],
    'a refusal': ['HTTP/1.1 401 Unauthorized\r\nContent-Length: x\r\n\r\n', { code: 'unauthenticated' }],
    'a prohibition': ['HTTP/1.1 403 Forbidden\r\n\r\n', { code: 'permission_denied' }],
    'a length over the limit': [
      'HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n',
      { code: 'resource_exhausted', retryable: true },
    ],
    'a chunk over the limit': [
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n',
      { code: 'resource_exhausted' },
    ],
    'a body over the limit, of no length': [
      (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(100_001)}`);
      },
      { code: 'resource_exhausted' },
    ],
  };

  test.each(Object.entries(failures))('%s', async (_, [answer, { message, ...expected }]) => {
    await using scraper = new Scraper({ url: raw.url, maxBodyBytes: 100_000 });
    raw.answer = answer;
    await expect(scraper.fetch(never)).rejects.toMatchObject({
      ...expected,
      message: expect.stringMatching(message ?? /^Cannot scrape http:\/\/127/),
    });
    const first = raw.connections[0]!;
    await until(() => first.destroyed, { timeoutMs: 5000, what: 'the connection to be ended' });
    raw.answer = ok('up 1\n');
    expect(await textOf(scraper)).toBe('up 1\n');
    expect(raw.requests).toHaveLength(2);
  });

  test.each([
    ['before the head', ''],
    ['in the head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['in the body', ok('up 1\n').slice(0, -1)],
    ['in a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nup'],
  ])('an answer that stalls %s until the deadline', async (_, answer) => {
    await using scraper = new Scraper({ url: raw.url });
    raw.answer = ok('first');
    await scraper.fetch(never);
    const deadline = new AbortController();
    raw.answer = (socket) => socket.write(answer, () => deadline.abort());
    await expect(scraper.fetch(deadline.signal)).rejects.toMatchObject(unavailable(/^no answer in time$/));
    raw.answer = ok('next');
    expect(await textOf(scraper)).toBe('next');
  });

  test('none, where it was given up itself', async () => {
    const scraper = new Scraper({ url: raw.url });
    raw.answer = ok('a');
    await scraper.fetch(never);
    raw.answer = () => void scraper[Symbol.asyncDispose]();
    await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable());
    await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable(/not scraped any more/));
    expect(raw.requests).toHaveLength(2);
  });
});

describe('a body', () => {
  test('lies where the one before lay', async () => {
    await using server = await PageServer.listen();
    await using scraper = new Scraper({ url: server.url });
    server.page = 'a 1\n'.repeat(30_000);
    const first = await scraper.fetch(never);
    expect(String(first)).toBe(server.page);
    server.page = 'b 2\n'.repeat(20_000);
    const second = await scraper.fetch(never);
    expect(String(second)).toBe(server.page);
    expect(second.buffer).toBe(first.buffer);
  });

  test('of the limit arrives whole, in chunks and with a length', async () => {
    await using server = await PageServer.listen();
    const body = Buffer.alloc(3_000_000, 'abcdefghijk');
    await using scraper = new Scraper({ url: server.url, maxBodyBytes: body.length });
    server.page = body;
    expect(body.equals(await scraper.fetch(never))).toBe(true);
    server.page = (_, response) => {
      for (let at = 0; at < body.length; at += 30_011) response.write(body.subarray(at, at + 30_011));
      response.end();
    };
    expect(body.equals(await scraper.fetch(never))).toBe(true);
  });
});

describe('over TLS', () => {
  let authority: TestAuthority;
  let options: ServerOptions;
  beforeEach(async () => {
    authority = await TestAuthority.create();
    const { cert, key } = await authority.issue('server', 'DNS:gpu-7.example,IP:127.0.0.1');
    options = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(authority.ca) };
  });
  afterEach(async () => {
    await authority[Symbol.asyncDispose]();
  });

  interface SecurePage extends AsyncDisposable {
    readonly url: string;
    readonly requests: readonly IncomingMessage[];
    /** Of each request, whether its connection resumed the session of another. */
    readonly resumed: readonly boolean[];
  }

  async function listen(more: ServerOptions, body: string, fields = {}): Promise<SecurePage> {
    const requests: IncomingMessage[] = [];
    const resumed: boolean[] = [];
    const server = createServer({ ...options, ...more }, (request, response) => {
      requests.push(request);
      resumed.push((request.socket as TLSSocket).isSessionReused());
      response.writeHead(200, fields).end(body);
    });
    server.on('tlsClientError', () => {});
    const { promise, resolve } = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', resolve);
    await promise;
    return {
      url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`,
      requests,
      resumed,
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections();
        await new Promise((closed) => server.close(closed));
      },
    };
  }

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: large pages come over one connection', async (version) => {
    const body = 'up 1\n'.repeat(100_000);
    await using server = await listen({ minVersion: version, maxVersion: version }, body);
    await using scraper = new Scraper({ url: server.url, tls: async () => ({ ca: options.ca as Buffer }) });
    for (let i = 0; i < 3; i++) expect((await textOf(scraper)) === body).toBe(true);
    expect(new Set(server.requests.map(({ socket }) => socket)).size).toBe(1);
  });

  test('with a certificate of its own, read once and again after a failure', async () => {
    await using server = await listen({ requestCert: true, rejectUnauthorized: true }, 'up 1\n', {
      connection: 'close',
    });
    const mine = await authority.issue('scraper');
    const shown = { cert: readFileSync(mine.cert), key: readFileSync(mine.key) };
    let reads = 0;
    let isLost = false;
    await using scraper = new Scraper({
      url: server.url,
      tls: async () => {
        reads++;
        return { ca: options.ca as Buffer, ...(isLost ? {} : shown) };
      },
    });
    for (let i = 0; i < 3; i++) expect(await textOf(scraper)).toBe('up 1\n');
    expect(reads).toBe(1);
    expect(new Set(server.requests.map(({ socket }) => socket)).size).toBe(3);
    expect(server.resumed).toEqual([false, true, true]);
    isLost = true;
    await expect(scraper.fetch(AbortSignal.abort())).rejects.toMatchObject(unavailable());
    await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable());
    isLost = false;
    expect(await textOf(scraper)).toBe('up 1\n');
    expect(reads).toBe(3);
    expect(server.requests).toHaveLength(4);
  });

  // Lost without it: whoever stands in between reads the pages, and the secret that asks for them.
  test('nothing is sent to a server that does not prove who it is', async () => {
    await using server = await listen({}, 'up 1\n');
    await using strangers = await TestAuthority.create();
    for (const tls of [
      { ca: readFileSync(strangers.ca) },
      { ca: options.ca as Buffer, servername: 'gpu-8.example' },
    ]) {
      await using scraper = new Scraper({
        url: server.url,
        tls: async () => tls,
        authorization: async () => 'Bearer s3cret',
      });
      await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable(/certificate|altnames/));
    }
    await using scraper = new Scraper({ url: server.url });
    await expect(scraper.fetch(never)).rejects.toMatchObject(unavailable(/certificate/));
    expect(server.requests).toEqual([]);
  });

  test('a server is asked for under its other name', async () => {
    const asked: string[] = [];
    const SNICallback: ServerOptions['SNICallback'] = (name, done) => {
      asked.push(name);
      done(null);
    };
    await using server = await listen({ SNICallback }, 'up 1\n');
    const ca = options.ca as Buffer;
    await using scraper = new Scraper({
      url: server.url,
      tls: async () => ({ ca, servername: 'gpu-7.example' }),
    });
    expect(await textOf(scraper)).toBe('up 1\n');
    await using addressed = new Scraper({ url: server.url, tls: async () => ({ ca }) });
    expect(await textOf(addressed)).toBe('up 1\n');
    expect(asked).toEqual(['gpu-7.example']);
  });
});
