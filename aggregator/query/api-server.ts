import { createServer as createHttp1, type IncomingMessage, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2,
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type Http2Session,
} from 'node:http2';
import { createServer as createTcp, type Server, type Socket } from 'node:net';
import { createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { AlertService } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthService } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { Health } from '#proto/grpc/health/v1/health_pb.ts';
import { ServerReflection } from '#proto/grpc/reflection/v1/reflection_pb.ts';
import { type Address, showAddress } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { ListenerTls } from '#shared/security/listener-tls.ts';
import { AlertWatches } from './alert-watch.ts';
import { alertingService } from './alerting-service.ts';
import { type AccessOptions, AccessRules, accessInterceptor, authorizationKey, nameOf } from './callers.ts';
import { crossOriginHeaders, PREFLIGHT_HEADERS } from './cross-origin.ts';
import { fleetService } from './fleet-service.ts';
import type { FleetView } from './fleet-view.ts';
import { fleetHealthService } from './health-service.ts';
import { type GuardOptions, guardRequest } from './request-guard.ts';
import { errorAnswer, MethodNotAllowed, matchRoute } from './rest.ts';
import { healthService, reflectionService } from './standard-services.ts';

export interface ApiServerOptions {
  readonly listen: Address;
  readonly tls: ListenerTls | undefined;
  readonly view: FleetView;
  readonly access: AccessOptions;
  readonly guard: GuardOptions;
  /** What people should know; shown by /readyz. */
  readonly notes: () => readonly string[];
  /** Most time that a whole request may take to arrive, ms; 30 s by default. */
  readonly requestMs?: number;
  readonly logger: Logger;
  readonly registry: Registry;
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

const MAX_CONNECTIONS = 10_000;
const MAX_MESSAGE_BYTES = 4 * 2 ** 20;
const MAX_REST_BODY_BYTES = 64 * 1024;
/** A connection that says nothing is closed. */
const FIRST_BYTES_MS = 10_000;
const REQUEST_MS = 30_000;
/** How much longer than `requestMs` a slow request may last. */
const REQUEST_LOOK_MS = 1_000;
const DRAIN_MS = 1_500;
/** How every cleartext HTTP/2 connection begins; HTTP/1.1 cannot begin so. */
const HTTP2_PREFACE = Buffer.from('PRI');

/**
 * gRPC, gRPC-Web, Connect, REST and /metrics on one port. Node's cleartext HTTP/2 server does not answer
 * HTTP/1.1, so a TCP server looks at the first bytes and hands the connection to the one or the other; with TLS
 * the two agree in the handshake.
 */
export class ApiServer implements AsyncDisposable {
  readonly #options: ApiServerOptions;
  readonly #rules: AccessRules;
  readonly #rpc: (request: Request, response: Response) => void;
  readonly #shutdown = new AbortController();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<Http2Session>();
  readonly #requests;
  #server: Server | undefined;
  #closing: Promise<void> | undefined;
  #address: Address;

  private constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#address = options.listen;
    this.#rules = new AccessRules(options.access);
    this.#requests = counter(options.registry, {
      name: 'gpufleet_api_requests_total',
      help: 'Requests by kind (rpc, rest, other) and HTTP status class.',
      labelNames: ['kind', 'status'],
    });
    const services = [FleetService, HealthService, AlertService, Health, ServerReflection];
    this.#rpc = connectNodeAdapter({
      routes: (router) => {
        router.service(FleetService, fleetService(options.view, new AlertWatches(options.view)));
        router.service(HealthService, fleetHealthService(options.view.health));
        router.service(AlertService, alertingService(options.view.alerting));
        router.service(Health, healthService(services));
        router.service(ServerReflection, reflectionService(services));
      },
      interceptors: [accessInterceptor(this.#rules)],
      readMaxBytes: MAX_MESSAGE_BYTES,
      maxTimeoutMs: 24 * 3_600_000,
      shutdownSignal: this.#shutdown.signal,
      contextValues: (request) => createContextValues().set(authorizationKey, request.headers.authorization),
      fallback: (request, response) => void this.#rest(request as Request, response as Response),
    }) as (request: Request, response: Response) => void;
  }

  /** Throws `unavailable` where the port is taken. */
  static async listen(options: ApiServerOptions): Promise<ApiServer> {
    const api = new ApiServer(options);
    const server = options.tls ? api.#secure(options.tls) : api.#cleartext();
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket: Socket) => {
      api.#sockets.add(socket);
      socket.once('close', () => api.#sockets.delete(socket));
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(options.listen.port, options.listen.host, resolve);
    try {
      await promise;
    } catch (error) {
      throw new FleetError(
        'unavailable',
        `Cannot listen on ${showAddress(options.listen)}: is the port taken? Choose another with api.listen`,
        { cause: error },
      );
    }
    const bound = server.address();
    if (typeof bound === 'object' && bound !== null) api.#address = { ...options.listen, port: bound.port };
    api.#server = server;
    options.logger.info({ address: showAddress(api.#address) }, 'API is listening');
    return api;
  }

  get address(): Address {
    return this.#address;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const server = this.#server;
    if (!server?.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // Streams end with "unavailable", so that clients go elsewhere; answers under way get a moment.
    this.#shutdown.abort(new FleetError('unavailable', 'The aggregator is stopping'));
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => this.#destroy(), DRAIN_MS);
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy();
    await closed;
    clearTimeout(timer);
  }

  #destroy(): void {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }

  #cleartext(): Server {
    const requestMs = this.#options.requestMs ?? REQUEST_MS;
    const http1 = createHttp1(
      {
        requestTimeout: requestMs,
        headersTimeout: requestMs,
        keepAliveTimeout: 5_000,
        connectionsCheckingInterval: REQUEST_LOOK_MS,
      },
      (request, response) => this.#handle(request, response),
    );
    // It never listens itself, and Node watches over slow and idle connections only from this event on.
    http1.emit('listening');
    this.#shutdown.signal.addEventListener('abort', () => http1.close());
    const http2 = createHttp2(HTTP2_OPTIONS, (request, response) => this.#handle(request, response));
    http2.on('session', (session) => this.#track(session));
    return createTcp({ pauseOnConnect: false }, (socket) => {
      socket.setTimeout(FIRST_BYTES_MS, () => socket.destroy());
      socket.on('error', () => socket.destroy());
      firstBytes(socket, (isHttp2) => {
        socket.setTimeout(0);
        (isHttp2 ? http2 : http1).emit('connection', socket);
      });
    });
  }

  #secure({ cert, key, ca }: ListenerTls): Server {
    const mutual = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
    const server = createSecureServer(
      { ...HTTP2_OPTIONS, ...mutual, cert, key, allowHTTP1: true, handshakeTimeout: FIRST_BYTES_MS },
      (request, response) => this.#handle(request, response),
    );
    server.on('session', (session) => this.#track(session));
    // HTTP/1.1 over TLS: Node has these on the server, its declarations do not.
    const requestMs = this.#options.requestMs ?? REQUEST_MS;
    return Object.assign(server, { requestTimeout: requestMs, headersTimeout: requestMs });
  }

  #track(session: Http2Session): void {
    this.#sessions.add(session);
    session.once('close', () => this.#sessions.delete(session));
    session.on('error', () => session.destroy());
  }

  #handle(request: Request, response: Response): void {
    const path = pathOf(request);
    const kind =
      /^\/[\w.]+\/\w+$/.test(path) && path.includes('.')
        ? 'rpc'
        : path.startsWith('/api/')
          ? 'rest'
          : 'other';
    response.once('close', () =>
      this.#requests.inc({ kind, status: `${Math.floor(response.statusCode / 100)}xx` }),
    );
    try {
      const authority = (request.headers[':authority'] as string | undefined) ?? request.headers.host;
      guardRequest(authority, request.headers.origin, this.#options.guard);
    } catch (error) {
      send(request, response, errorAnswer(error));
      return;
    }
    const { origin } = request.headers;
    if (origin !== undefined) {
      for (const [name, value] of crossOriginHeaders(origin)) response.setHeader(name, value);
      if (request.method === 'OPTIONS') {
        // HTTP/1 and HTTP/2 responses agree in this; only their declared overloads differ.
        (response as ServerResponse).writeHead(204, PREFLIGHT_HEADERS).end();
        return;
      }
    }
    try {
      this.#rpc(request, response);
    } catch (error) {
      // It takes a request apart before it answers: whatever it cannot read must not end the process.
      const cause = new FleetError('invalid_input', 'Cannot read request', { cause: error });
      send(request, response, errorAnswer(cause));
    }
  }

  async #rest(request: Request, response: Response): Promise<void> {
    try {
      const path = pathOf(request);
      if (path === '/healthz') return sendText(request, response, 200, 'ok\n');
      if (path === '/readyz')
        return sendText(request, response, 200, ['ready', ...this.#options.notes(), ''].join('\n'));
      if (path === '/')
        return sendText(
          request,
          response,
          200,
          'gpufleet aggregator: gRPC, Connect and /api/v1 are here; the contract is in proto/\n',
        );
      if (path === '/metrics') {
        this.#rules.require('read', request.headers.authorization);
        const { registry } = this.#options;
        return sendText(request, response, 200, await registry.metrics(), registry.contentType);
      }
      const wanted = {
        method: request.method ?? '',
        path,
        query: new URLSearchParams(request.url?.slice(path.length)),
        body: undefined as unknown,
        by: '',
      };
      const route = matchRoute(wanted);
      wanted.by = nameOf(this.#rules.require(route.access, request.headers.authorization));
      if (wanted.method === 'POST') wanted.body = await readJson(request);
      send(request, response, { status: 200, body: await route.answer(this.#options.view, wanted) });
    } catch (error) {
      // Where the client has gone there is nobody to answer, and nothing of ours has failed.
      if (request.readableAborted) return;
      if (!(error instanceof FleetError))
        this.#options.logger.error({ cause: describeError(error) }, 'a request failed');
      if (error instanceof MethodNotAllowed) response.setHeader('allow', error.allow);
      if (error instanceof FleetError && error.code === 'unauthenticated')
        response.setHeader('www-authenticate', 'Bearer');
      refuseRest(request);
      send(request, response, errorAnswer(error));
    }
  }
}

const HTTP2_OPTIONS = {
  settings: { maxConcurrentStreams: 100, maxHeaderListSize: 16 * 1024 },
  unknownProtocolTimeout: FIRST_BYTES_MS,
} as const;

/** Calls back once three bytes are there, which are put back. */
function firstBytes(socket: Socket, decide: (isHttp2: boolean) => void): void {
  let seen = Buffer.alloc(0);
  const look = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    if (seen.length < HTTP2_PREFACE.length) return;
    socket.off('readable', look);
    socket.unshift(seen);
    decide(seen.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE));
  };
  socket.on('readable', look);
}

/** What else of a refused body comes is thrown away: HTTP/1.1 until the request's time is up, HTTP/2 not at all. */
function refuseRest(request: Request): void {
  if ('stream' in request) request.stream.once('finish', () => request.stream.close());
  else request.resume();
}

function pathOf(request: Request): string {
  return request.url?.split('?', 1)[0] ?? '/';
}

async function readJson(request: Request): Promise<unknown> {
  const parts: Buffer[] = [];
  let length = 0;
  // The connection must outlive a body that is refused: the answer goes by it.
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    length += (part as Buffer).length;
    if (length > MAX_REST_BODY_BYTES)
      throw new FleetError(
        'invalid_input',
        `Cannot read body: it is larger than ${MAX_REST_BODY_BYTES} bytes`,
      );
    parts.push(part as Buffer);
  }
  if (length === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString());
  } catch (error) {
    throw new FleetError('invalid_input', 'Cannot read body: it is not JSON', { cause: error });
  }
}

function send(
  request: Request,
  response: Response,
  { status, body }: { status: number; body: unknown },
): void {
  sendText(request, response, status, `${JSON.stringify(body)}\n`, 'application/json');
}

function sendText(
  request: Request,
  response: Response,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  if (response.headersSent) return;
  // HTTP/1 and HTTP/2 responses agree in this; only their declared overloads differ.
  const answer = response as ServerResponse;
  answer.writeHead(status, {
    'content-type': type,
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  });
  answer.end(request.method === 'HEAD' ? undefined : text);
}
