import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Scraper } from '../../../../agent/collect/prometheus/scrape.ts';
import { until } from '../../../support/wait.ts';
import { PageServer } from './page-server.ts';

const never = new AbortController().signal;
let server: PageServer;

beforeEach(async () => {
  server = await PageServer.listen();
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
});

async function fetched(options: { maxBodyBytes?: number; signal?: AbortSignal } = {}): Promise<string> {
  const { signal = never, ...limits } = options;
  await using scraper = new Scraper({ url: server.url, ...limits });
  return String(await scraper.fetch(signal));
}

test('asks for Prometheus text, and gives the body', async () => {
  server.page = (request, response) => response.end(`${request.url} ${request.headers.accept}`);
  expect(await fetched()).toBe('/metrics text/plain;version=0.0.4,*/*;q=0.1');
});

test('unpacks gzip', async () => {
  server.page = (_, response) => response.setHeader('content-encoding', 'gzip').end(gzipSync('up 1\n'));
  expect(await fetched()).toBe('up 1\n');
});

describe('fails with the reason', () => {
  test.each([404, 503, 301, 204])('when the answer is %d', async (status) => {
    server.page = (_, response) => response.writeHead(status, { location: '/elsewhere' }).end();
    await expect(fetched()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(`/metrics: it answered ${status}`),
    });
  });

  // Lost without it: the read never settles, not even at its deadline, and the source is never read again.
  test('when the answer switches to another protocol', async () => {
    server.page = (_, response) => {
      response.socket!.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n');
    };
    await expect(fetched({ signal: AbortSignal.timeout(2000) })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });

  test('when nobody listens', async () => {
    await using scraper = new Scraper({ url: server.url });
    await server[Symbol.asyncDispose]();
    await expect(scraper.fetch(never)).rejects.toMatchObject({ code: 'unavailable', retryable: true });
    server = await PageServer.listen();
  });

  test('when the body breaks off', async () => {
    server.page = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('up 1\n', () => response.destroy());
    };
    await expect(fetched()).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('when gzip is damaged, or the encoding unknown', async () => {
    server.page = (_, response) => response.setHeader('content-encoding', 'gzip').end('up 1\n');
    await expect(fetched()).rejects.toMatchObject({ code: 'unavailable' });
    server.page = (_, response) => response.setHeader('content-encoding', 'br').end('up 1\n');
    await expect(fetched()).rejects.toThrow('its content encoding is br');
  });

  test('when the signal aborts before the answer is complete', async () => {
    const deadline = new AbortController();
    server.page = (_, response) => {
      response.write('up 1\n');
      deadline.abort();
    };
    await expect(fetched({ signal: deadline.signal })).rejects.toMatchObject({ code: 'unavailable' });
  });

  test.each(['ftp://host/metrics', 'file:///etc/passwd', 'metrics', ''])('when the URL is "%s"', (url) => {
    expect(() => new Scraper({ url })).toThrow(expect.objectContaining({ code: 'invalid_config' }));
  });

  test('without what is secret in the URL', async () => {
    server.page = (_, response) => response.writeHead(500).end();
    const url = new URL(server.url);
    url.username = 'me';
    url.password = 'hunter2';
    url.search = '?token=hunter2';
    await using scraper = new Scraper({ url: url.href });
    await expect(scraper.fetch(never)).rejects.toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
    );
  });
});

// Lost without it: one broken exporter takes the memory of every agent that scrapes it.
describe('a body over the limit is refused', () => {
  test('of 100 MB, of which it reads no more than a little over the limit', async () => {
    let sent = 0;
    let closed = false;
    const chunk = Buffer.alloc(64 * 1024, 'x');
    server.page = (_, response) => {
      response.on('close', () => {
        closed = true;
      });
      const write = (): void => {
        while (sent < 100e6 && !closed) {
          sent += chunk.length;
          if (!response.write(chunk)) {
            response.once('drain', write);
            return;
          }
        }
        response.end();
      };
      write();
    };
    await expect(fetched({ maxBodyBytes: 2 ** 20 })).rejects.toMatchObject({
      code: 'resource_exhausted',
      message: expect.stringContaining('its answer is larger than 1048576 bytes'),
    });
    await until(() => closed, { timeoutMs: 10_000, what: 'the connection to be closed' });
    // What sockets and kernel buffer on the way is a few megabytes.
    expect(sent).toBeLessThan(50e6);
  });

  test('of 100 MB packed into 100 kB', async () => {
    const bomb = gzipSync(Buffer.alloc(100_000_000, 'x'), { level: 9 });
    expect(bomb.length).toBeLessThan(2 ** 20);
    server.page = (_, response) => response.setHeader('content-encoding', 'gzip').end(bomb);
    await expect(fetched({ maxBodyBytes: 2 ** 20 })).rejects.toMatchObject({ code: 'resource_exhausted' });
  });

  test('and one of exactly the limit is not', async () => {
    server.page = 'x'.repeat(1000);
    expect(await fetched({ maxBodyBytes: 1000 })).toHaveLength(1000);
    server.page = 'x'.repeat(1001);
    await expect(fetched({ maxBodyBytes: 1000 })).rejects.toMatchObject({ code: 'resource_exhausted' });
  });
});
