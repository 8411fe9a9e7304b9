import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, createSecureContext } from 'node:tls';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
import { HttpConnection } from './http-connection.ts';
import { HttpResponse, OversizedBody, type ResponseHead } from './http-response.ts';
import type { TlsFiles } from './scrape-credentials.ts';

export interface ScraperOptions {
  /** http or https. */
  readonly url: string;
  /** A larger body, sent or unpacked, is refused. Default 16 MiB: 40 times a node of 16 GPUs and 150 fields. */
  readonly maxBodyBytes?: number;
  /** Default: text 0.0.4 alone. */
  readonly accept?: string;
  /** The Authorization header of each request. A throw fails the fetch. */
  readonly authorization?: () => Promise<string>;
  /** Read for the first connection, and again after a failure: certificates are renewed. A throw fails the fetch. */
  readonly tls?: () => Promise<TlsFiles>;
}

const DEFAULT_MAX_BODY_BYTES = 16 * 2 ** 20;
const TEXT = 'text/plain;version=0.0.4,*/*;q=0.1';
const REFUSALS: ReadonlyMap<number, ErrorCode> = new Map([
  [401, 'unauthenticated'],
  [403, 'permission_denied'],
]);
const unzip = promisify(gunzip);

/** Where packing would cost more than it saves. */
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;
/** Read in one piece at most: what Node's own streams take. */
const READ_BYTES = 64 * 1024;
/** Of silence before the kernel asks whether the other side is still there: longer than most intervals. */
const KEEP_ALIVE_MS = 20_000;
/** What an answer says is shown in an error up to here. */
const SHOWN_CHARACTERS = 60;
/** What a header can carry. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * Fetches one endpoint over a connection of its own that is kept open, into a buffer that is used again.
 *
 * The client is our own because node:http's costs 1.2 ms of the main thread and 0.5 ms of V8's workers for a page of
 * 60 kB once a second, where caches are cold between scrapes; this one costs 0.4 and 0.1 ms (Node 24, 2 vCPU, loopback).
 * undici's takes 10 MiB more of a small process.
 */
export class Scraper implements AsyncDisposable {
  readonly #url: URL;
  readonly #shown: string;
  readonly #options: ScraperOptions;
  readonly #limit: number;
  readonly #head: string;
  readonly #response: HttpResponse;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  #connection: HttpConnection | undefined;
  #tls: ConnectionOptions | undefined;
  #session: Buffer | undefined;
  #contentType = '';
  #packed = false;
  #busy = false;
  #disposed = false;

  /** Throws `invalid_config` for a URL that is none, or is neither http nor https. */
  constructor(options: ScraperOptions) {
    const { url, maxBodyBytes = DEFAULT_MAX_BODY_BYTES, accept = TEXT } = options;
    const parsed = URL.parse(url);
    if (!parsed || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) {
      throw new FleetError('invalid_config', `Cannot scrape "${url}": it is not an http or https URL`);
    }
    this.#url = new URL(parsed.origin + parsed.pathname + parsed.search);
    // Without what may be secret: user, password, query.
    this.#shown = parsed.origin + parsed.pathname;
    this.#options = options;
    this.#limit = maxBodyBytes;
    this.#head = headOf(this.#url, accept);
    this.#response = new HttpResponse({ maxBodyBytes, onHead: (head) => this.#judge(head) });
  }

  /** Of the last body; empty where it had none. */
  get contentType(): string {
    return this.#contentType;
  }

  /**
   * The body: a view that is valid until the next fetch, which overwrites it. One fetch at a time.
   *
   * Throws `unavailable` where the endpoint does not answer, answers other than 200 (redirects are not followed;
   * `unauthenticated` for 401, `permission_denied` for 403) or not before the signal aborts, and `resource_exhausted`
   * where the body is over the limit, of which no more than that was read.
   */
  async fetch(signal: AbortSignal): Promise<Buffer> {
    if (this.#busy) {
      throw new FleetError('internal', `Cannot scrape ${this.#shown}: the fetch before is still under way`);
    }
    this.#busy = true;
    try {
      await this.#exchange(await this.#request(), signal);
      const { body } = this.#response;
      return this.#packed ? await this.#unzip(body) : body;
    } catch (error) {
      this.#giveUp();
      throw this.#failure(error, signal);
    } finally {
      this.#busy = false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#connection?.destroy();
  }

  async #request(): Promise<string> {
    const authorization = await this.#options.authorization?.();
    if (authorization === undefined) return `${this.#head}\r\n`;
    // The value is a secret, and stays out of the message.
    if (!HEADER_VALUE.test(authorization)) throw new Error('the authorization is not one line of latin1');
    return `${this.#head}Authorization: ${authorization}\r\n\r\n`;
  }

  /** A kept connection that the other side closed just now is no failure: once more, over a new one. */
  async #exchange(request: string, signal: AbortSignal): Promise<void> {
    const kept = this.#connection;
    if (kept?.usable) {
      try {
        return await kept.exchange(request, signal);
      } catch (error) {
        if (this.#response.begun || signal.aborted) throw error;
      }
    }
    this.#connection = await this.#connect();
    await this.#connection.exchange(request, signal);
  }

  async #connect(): Promise<HttpConnection> {
    this.#tls ??= await this.#readTls();
    if (this.#disposed) throw new Error('it is not scraped any more');
    return new HttpConnection({
      open: (onread) => this.#open(onread),
      ready: this.#isSecure ? 'secureConnect' : 'connect',
      buffer: this.#buffer,
      response: this.#response,
    });
  }

  /** Kept, so that an endpoint that closes each connection costs no certificate being parsed for each. */
  async #readTls(): Promise<ConnectionOptions> {
    const files = await this.#options.tls?.();
    if (!this.#isSecure) return {};
    // An address is no name to ask a server for.
    const servername = files?.servername ?? (isIP(this.#host) ? '' : this.#host);
    return { servername, secureContext: createSecureContext(files), ALPNProtocols: ['http/1.1'] };
  }

  #open(onread: OnReadOpts): Socket {
    const { port } = this.#url;
    const to = { host: this.#host, port: Number(port) || (this.#isSecure ? 443 : 80), onread };
    const socket = this.#isSecure ? this.#openTls(to) : connectPlain(to);
    return socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
  }

  #openTls(to: ConnectionOptions): Socket {
    const socket = connectTls({ ...to, ...this.#tls, ...(this.#session && { session: this.#session }) });
    socket.on('session', (session) => {
      this.#session = session;
    });
    return socket;
  }

  get #isSecure(): boolean {
    return this.#url.protocol === 'https:';
  }

  /** Without the brackets of IPv6. */
  get #host(): string {
    return this.#url.hostname.replace(/^\[|\]$/g, '');
  }

  #judge({ status, contentType, contentEncoding }: ResponseHead): void {
    const encoding = contentEncoding || 'identity';
    const refusal =
      status !== 200
        ? `it answered ${status}`
        : encoding !== 'identity' && encoding !== 'gzip'
          ? `its content encoding is ${encoding.slice(0, SHOWN_CHARACTERS)}`
          : undefined;
    if (refusal !== undefined) {
      throw new FleetError(
        REFUSALS.get(status) ?? 'unavailable',
        `Cannot scrape ${this.#shown}: ${refusal}`,
        { retryable: true },
      );
    }
    this.#contentType = contentType;
    this.#packed = encoding === 'gzip';
  }

  /** Certificates and the memory of the body too: both may be what is wrong. */
  #giveUp(): void {
    this.#connection?.destroy();
    this.#connection = undefined;
    this.#tls = undefined;
    this.#session = undefined;
    this.#response.release();
  }

  async #unzip(sent: Buffer): Promise<Buffer> {
    try {
      return await unzip(sent, { maxOutputLength: this.#limit });
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')
        throw new OversizedBody();
      throw error;
    }
  }

  #failure(error: unknown, signal: AbortSignal): FleetError {
    if (error instanceof FleetError) return error;
    if (error instanceof OversizedBody) {
      const what = `its answer is larger than ${this.#limit} bytes`;
      return new FleetError('resource_exhausted', `Cannot scrape ${this.#shown}: ${what}`, {
        retryable: true,
      });
    }
    const cause = signal.aborted ? new Error('no answer in time', { cause: error }) : error;
    return new FleetError('unavailable', `Cannot scrape ${this.#shown}`, { cause });
  }
}

/** Of each request, without its end. What a URL has parsed to holds neither spaces nor line ends. */
function headOf({ pathname, search, host, hostname }: URL, accept: string): string {
  const lines = [
    `GET ${pathname}${search} HTTP/1.1`,
    `Host: ${host}`,
    'Connection: keep-alive',
    `Accept: ${accept}`,
    ...(LOOPBACK.test(hostname) ? [] : ['Accept-Encoding: gzip']),
  ];
  return lines.map((line) => `${line}\r\n`).join('');
}
