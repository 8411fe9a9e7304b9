import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Address } from '#shared/config/values.ts';
import { showAddress } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';

/** The page of a node, at this moment. */
export type Page = () => Promise<string>;

/** Scrapers keep their connections: as long as the longest usual interval. */
const KEEP_ALIVE_MS = 75_000;
/** Connections of one server; scrapers of ten thousand nodes need no more at a time. */
const MAX_CONNECTIONS = 10_000;

/**
 * Metrics pages of many nodes on one port:
 *
 *     GET /metrics/<node>   the node's page
 *     GET /targets          all of them, for Prometheus' and vmagent's http_sd_configs
 */
export class PageServer implements AsyncDisposable {
  readonly #pages = new Map<string, Page>();
  readonly #server: Server;
  #closed: Promise<void> | undefined;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.keepAliveTimeout = KEEP_ALIVE_MS;
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Throws `unavailable` where the address cannot be had. */
  static async listen({ host, port }: Address): Promise<PageServer> {
    const pages = new PageServer();
    try {
      pages.#server.listen(port, host);
      await once(pages.#server, 'listening');
    } catch (error) {
      const where = showAddress({ host, port });
      throw new FleetError('unavailable', `Cannot serve pages on ${where}: ${describeError(error)}`);
    }
    return pages;
  }

  get address(): Address {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') return { host: '', port: 0 };
    return { host: address.address, port: address.port };
  }

  add(node: string, page: Page): void {
    this.#pages.set(node, page);
  }

  remove(node: string): void {
    this.#pages.delete(node);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
    await this.#closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET') return end(response, 405, 'only GET\n');
    const path = (request.url ?? '').split('?')[0]!;
    if (path === '/targets') return end(response, 200, this.#targets(request), 'application/json');
    const page = this.#pages.get(nodeOf(path) ?? '');
    if (!page) return end(response, 404, 'pages are at /metrics/<node>, see /targets\n');
    try {
      end(response, 200, await page(), 'text/plain; version=0.0.4; charset=utf-8');
    } catch (error) {
      end(response, 503, `${describeError(error)}\n`);
    }
  }

  #targets({ headers: { host } }: IncomingMessage): string {
    const targets = [host ?? showAddress(this.address)];
    const all = [...this.#pages.keys()].map((node) => ({
      targets,
      labels: { __metrics_path__: `/metrics/${encodeURIComponent(node)}`, node },
    }));
    return JSON.stringify(all);
  }
}

interface Shared {
  readonly server: Promise<PageServer>;
  users: number;
}

/** The nodes of one process are agents that do not know each other, and share a port: the first listens, the last closes. */
const shared = new Map<string, Shared>();

/**
 * Serves the page of one node on a port that other nodes of this process may have too. An address that cannot be had
 * is an error in the log: the node itself goes on.
 */
export function servePage(address: Address, node: string, page: Page, logger: Logger): AsyncDisposable {
  const where = showAddress(address);
  const one = shared.get(where) ?? { server: PageServer.listen(address), users: 0 };
  shared.set(where, one);
  one.users++;
  const added = one.server.then(
    (server) => {
      server.add(node, page);
      logger.info({ node, address: showAddress(server.address) }, 'serving the page of a simulated node');
      return server;
    },
    (error: unknown) => {
      logger.error({ node, cause: describeError(error) }, 'the page of a simulated node is not served');
      return undefined;
    },
  );
  let closed: Promise<void> | undefined;
  return {
    [Symbol.asyncDispose]: () => {
      closed ??= leave(where, one, node, added);
      return closed;
    },
  };
}

async function leave(
  where: string,
  one: Shared,
  node: string,
  added: Promise<PageServer | undefined>,
): Promise<void> {
  one.users--;
  const isLast = one.users === 0;
  if (isLast) shared.delete(where);
  const server = await added;
  server?.remove(node);
  if (isLast) await server?.[Symbol.asyncDispose]();
}

function nodeOf(path: string): string | undefined {
  const match = /^\/metrics\/([^/]+)$/.exec(path);
  try {
    return match ? decodeURIComponent(match[1]!) : undefined;
  } catch {
    return undefined;
  }
}

function end(response: ServerResponse, status: number, body: string, type = 'text/plain'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
}
