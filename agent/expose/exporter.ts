import { createServer, type Server } from 'node:http';
import { type Address, showAddress } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';

export interface ExporterOptions {
  readonly listen: Address;
  readonly metricsPath: string;
  /** Prometheus text. */
  readonly metrics: () => Promise<string>;
  /** Why the agent is not ready, or undefined. */
  readonly notReady: () => string | undefined;
  readonly logger: Logger;
}

/** Ports tried after the configured one, where that is taken. */
const MORE_PORTS = 1;
/** Slow clients do not pile up: Prometheus' own scrape timeout is 10 s by default. */
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 64;

/**
 * Serves /metrics, /healthz and /readyz. Where the port is taken the next one is used; where that is taken too,
 * the agent goes on without: collecting never depends on exposing.
 */
export class Exporter implements AsyncDisposable {
  readonly address: Address | undefined;
  readonly #server: Server | undefined;

  private constructor(server: Server | undefined, address: Address | undefined) {
    this.#server = server;
    this.address = address;
  }

  static async listen(options: ExporterOptions): Promise<Exporter> {
    const { logger } = options;
    for (let step = 0; step <= MORE_PORTS; step++) {
      const address = { ...options.listen, port: options.listen.port === 0 ? 0 : options.listen.port + step };
      const server = serverOf(options);
      try {
        const port = await listenOn(server, address);
        if (step > 0) {
          logger.warn(
            `port ${options.listen.port} is taken (dcgm-exporter uses it too): metrics are on ${port}`,
          );
        }
        logger.info({ address: showAddress({ ...address, port }) }, 'exporting metrics');
        return new Exporter(server, { ...address, port });
      } catch (error) {
        logger.debug({ address: showAddress(address), cause: describeError(error) }, 'cannot listen');
      }
    }
    logger.error(
      `Cannot listen on ${showAddress(options.listen)} or the port after it: collecting goes on, nothing is exported`,
    );
    return new Exporter(undefined, undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server?.listening) return;
    const closed = new Promise<void>((resolve) => this.#server!.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

function serverOf({ metricsPath, metrics, notReady, logger }: ExporterOptions): Server {
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => {
      const answer = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
        response.writeHead(status, { 'content-type': type });
        response.end(request.method === 'HEAD' ? undefined : body);
      };
      const path = request.url?.split('?', 1)[0];
      if (request.method !== 'GET' && request.method !== 'HEAD') answer(405, 'only GET\n');
      else if (path === '/healthz') answer(200, 'ok\n');
      else if (path === '/readyz') {
        const reason = notReady();
        answer(reason === undefined ? 200 : 503, `${reason ?? 'ready'}\n`);
      } else if (path === metricsPath) {
        metrics().then(
          (text) => answer(200, text, 'text/plain; version=0.0.4; charset=utf-8'),
          (error: unknown) => {
            logger.error({ cause: describeError(error) }, 'cannot render metrics');
            answer(500, 'cannot render metrics\n');
          },
        );
      } else if (path === '/') answer(200, `gpufleet agent: ${metricsPath} /healthz /readyz\n`);
      else answer(404, 'not found\n');
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

async function listenOn(server: Server, { host, port }: Address): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  await promise;
  server.off('error', reject);
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}
