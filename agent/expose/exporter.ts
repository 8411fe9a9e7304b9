import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { type Address, showAddress } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { ListenerTls } from '#shared/security/listener-tls.ts';
import { BasicAuth } from './basic-auth.ts';
import { CONTENT_TYPES, type Format } from './exposition.ts';
import { formatFor } from './negotiate.ts';

/** Who may read the metrics: exchanged while it serves. */
export interface ExporterAccess {
  /** scrypt hashes by user name; everybody may read where there are none. */
  readonly users: Readonly<Record<string, string>>;
  /** Plain HTTP where not given. That there is one cannot change while it serves. */
  readonly tls: ListenerTls | undefined;
}

export interface ExporterOptions {
  readonly listen: Address;
  readonly metricsPath: string;
  readonly metrics: (format: Format) => Promise<string>;
  readonly access?: ExporterAccess;
  /** Why the agent is not ready, or undefined. */
  readonly notReady: () => string | undefined;
  readonly logger: Logger;
  /** Instead of IDLE_MS. */
  readonly idleMs?: number;
}

/** Ports tried after the configured one, where that is taken. */
const MORE_PORTS = 1;
/** Slow clients do not pile up: Prometheus' own scrape timeout is 10 s by default. */
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 64;
/** A client that does not take its answer for so long is cut off. */
const IDLE_MS = 30_000;

/**
 * Serves /metrics, /healthz and /readyz. Where the port is taken the next one is used; where that is taken too,
 * the agent goes on without: collecting never depends on exposing. /healthz and /readyz ask nobody for a password:
 * probes have none.
 */
export class Exporter implements AsyncDisposable {
  readonly address: Address | undefined;
  readonly #server: Server | TlsServer | undefined;
  readonly #guard: Guard;

  private constructor(server: Server | TlsServer | undefined, address: Address | undefined, guard: Guard) {
    this.#server = server;
    this.address = address;
    this.#guard = guard;
  }

  static async listen(options: ExporterOptions): Promise<Exporter> {
    const { logger, access = OPEN } = options;
    const guard: Guard = { auth: authOf(access) };
    for (let step = 0; step <= MORE_PORTS; step++) {
      const address = { ...options.listen, port: options.listen.port === 0 ? 0 : options.listen.port + step };
      const server = serverOf(options, access, guard);
      try {
        const port = await listenOn(server, address);
        // A connection that cannot be taken, as where there is no file descriptor left, must not end the agent.
        server.on('error', (error) => logger.warn({ cause: describeError(error) }, 'exporter'));
        if (step > 0) {
          logger.warn(
            `port ${options.listen.port} is taken (dcgm-exporter uses it too): metrics are on ${port}`,
          );
        }
        logger.info(
          { address: showAddress({ ...address, port }), tls: access.tls !== undefined },
          'exporting metrics',
        );
        return new Exporter(server, { ...address, port }, guard);
      } catch (error) {
        logger.debug({ address: showAddress(address), cause: describeError(error) }, 'cannot listen');
      }
    }
    logger.error(
      `Cannot listen on ${showAddress(options.listen)} or the port after it: collecting goes on, nothing is exported`,
    );
    return new Exporter(undefined, undefined, guard);
  }

  /** From now on these users, and for new connections this certificate. */
  setAccess(access: ExporterAccess): void {
    this.#guard.auth = authOf(access);
    if (access.tls && this.#server && 'setSecureContext' in this.#server)
      this.#server.setSecureContext(secureOptions(access.tls));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server?.listening) return;
    const closed = new Promise<void>((resolve) => this.#server!.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

interface Guard {
  auth: BasicAuth | undefined;
}

const OPEN: ExporterAccess = { users: {}, tls: undefined };

function authOf({ users }: ExporterAccess): BasicAuth | undefined {
  return Object.keys(users).length > 0 ? new BasicAuth(users) : undefined;
}

function secureOptions({ cert, key, ca }: ListenerTls) {
  const mutual = ca ? { ca, requestCert: true, rejectUnauthorized: true } : {};
  return { cert, key, minVersion: 'TLSv1.2' as const, ...mutual };
}

function serverOf(options: ExporterOptions, { tls }: ExporterAccess, guard: Guard): Server | TlsServer {
  const timeouts = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS };
  const listener: RequestListener = (request, response) => {
    serve(request, response, options, guard).catch((error: unknown) => {
      options.logger.error({ cause: describeError(error) }, 'cannot render metrics');
      answer(request, response, 500, 'cannot render metrics\n');
    });
  };
  const server = tls
    ? createTlsServer({ ...timeouts, ...secureOptions(tls) }, listener)
    : createServer(timeouts, listener);
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = options.idleMs ?? IDLE_MS;
  return server;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  { metricsPath, metrics, notReady }: ExporterOptions,
  { auth }: Guard,
): Promise<void> {
  const path = request.url?.split('?', 1)[0];
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return answer(request, response, 405, 'only GET\n');
  if (path === '/healthz') return answer(request, response, 200, 'ok\n');
  if (path === '/readyz') {
    const reason = notReady();
    return answer(request, response, reason === undefined ? 200 : 503, `${reason ?? 'ready'}\n`);
  }
  const allowed = (await auth?.check(request.headers.authorization)) ?? 'ok';
  if (allowed === 'busy') return answer(request, response, 429, 'too many passwords are being tried\n');
  if (allowed === 'denied') {
    response.setHeader('www-authenticate', 'Basic realm="gpufleet agent", charset="UTF-8"');
    return answer(request, response, 401, 'a user and password are needed\n');
  }
  if (path === metricsPath) {
    const format = formatFor(request.headers.accept);
    response.setHeader('vary', 'accept');
    return answer(request, response, 200, await metrics(format), CONTENT_TYPES[format]);
  }
  if (path === '/')
    return answer(request, response, 200, `gpufleet agent: ${metricsPath} /healthz /readyz\n`);
  answer(request, response, 404, 'not found\n');
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type });
  response.end(request.method === 'HEAD' ? undefined : body);
}

async function listenOn(server: Server | TlsServer, { host, port }: Address): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  await promise;
  server.off('error', reject);
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}
