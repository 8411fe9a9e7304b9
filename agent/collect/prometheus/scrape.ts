import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
} from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
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
const MAX_HEADER_BYTES = 16 * 1024;

/**
 * Fetches one endpoint over a connection of its own that is kept open. Node's own client: undici's takes 10 MiB more of
 * a small process.
 */
export class Scraper implements AsyncDisposable {
  readonly #url: URL;
  readonly #shown: string;
  readonly #limit: number;
  readonly #options: ScraperOptions;
  #agent: HttpAgent | undefined;
  #contentType = '';

  /** Throws `invalid_config` for a URL that is none, or is neither http nor https. */
  constructor(options: ScraperOptions) {
    const { url, maxBodyBytes = DEFAULT_MAX_BODY_BYTES } = options;
    const parsed = URL.parse(url);
    if (!parsed || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) {
      throw new FleetError('invalid_config', `Cannot scrape "${url}": it is not an http or https URL`);
    }
    this.#url = new URL(parsed.origin + parsed.pathname + parsed.search);
    // Without what may be secret: user, password, query.
    this.#shown = parsed.origin + parsed.pathname;
    this.#limit = maxBodyBytes;
    this.#options = options;
  }

  /** Of the last body; empty where it had none. */
  get contentType(): string {
    return this.#contentType;
  }

  /**
   * The body. Throws `unavailable` where the endpoint does not answer, answers other than 200 (redirects are not
   * followed; `unauthenticated` for 401, `permission_denied` for 403) or not before the signal aborts, and
   * `resource_exhausted` where the body is over the limit, of which no more than that was read.
   */
  async fetch(signal: AbortSignal): Promise<Buffer> {
    try {
      const { accept = TEXT, authorization } = this.#options;
      const headers = {
        accept,
        ...(!LOOPBACK.test(this.#url.hostname) && { 'accept-encoding': 'gzip' }),
        ...(authorization && { authorization: await authorization() }),
      };
      this.#agent ??= await this.#connect();
      const response = await this.#request(headers, signal);
      return await this.#read(response);
    } catch (error) {
      if (this.#options.tls) this.#disconnect();
      if (error instanceof FleetError) throw error;
      const cause = signal.aborted ? new Error('no answer in time', { cause: error }) : error;
      throw new FleetError('unavailable', `Cannot scrape ${this.#shown}`, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disconnect();
  }

  async #connect(): Promise<HttpAgent> {
    const options = { keepAlive: true, maxSockets: 1 };
    const tls = await this.#options.tls?.();
    return this.#url.protocol === 'http:' ? new HttpAgent(options) : new HttpsAgent({ ...options, ...tls });
  }

  #disconnect(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }

  /** A kept connection that the other side closed just now is no failure: once more, over a new one. */
  async #request(headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
    const send = (): { request: ClientRequest; response: Promise<IncomingMessage> } => {
      const options = { headers, signal, agent: this.#agent!, maxHeaderSize: MAX_HEADER_BYTES };
      const request =
        this.#url.protocol === 'http:' ? requestHttp(this.#url, options) : requestHttps(this.#url, options);
      const response = new Promise<IncomingMessage>((resolve, reject) => {
        request.once('response', resolve);
        // Also what comes after the response: it would end the process if nobody listened.
        request.on('error', reject);
        // An answer that switches protocols (101) ends the connection without an error or a response.
        request.once('close', () => reject(new Error('the connection was closed without an answer')));
      });
      request.end();
      return { request, response };
    };
    const first = send();
    try {
      return await first.response;
    } catch (error) {
      if (!first.request.reusedSocket || signal.aborted) throw error;
      return await send().response;
    }
  }

  async #read(response: IncomingMessage): Promise<Buffer> {
    const { statusCode = 0, headers } = response;
    const encoding = headers['content-encoding'] ?? 'identity';
    const refusal =
      statusCode !== 200
        ? `it answered ${statusCode}`
        : encoding !== 'identity' && encoding !== 'gzip'
          ? `its content encoding is ${encoding}`
          : undefined;
    // A body that is given up says so by an error event, which would end the process if nobody listened.
    response.on('error', () => {});
    if (refusal !== undefined) {
      response.destroy();
      throw new FleetError(
        REFUSALS.get(statusCode) ?? 'unavailable',
        `Cannot scrape ${this.#shown}: ${refusal}`,
        { retryable: true },
      );
    }
    this.#contentType = headers['content-type'] ?? '';
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      // Leaving the loop destroys the stream, and with it the connection: the rest is never read.
      if (size > this.#limit) throw this.#tooLarge();
      chunks.push(chunk);
    }
    const sent = Buffer.concat(chunks, size);
    return encoding === 'gzip' ? this.#unzip(sent) : sent;
  }

  async #unzip(sent: Buffer): Promise<Buffer> {
    try {
      return await unzip(sent, { maxOutputLength: this.#limit });
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')
        throw this.#tooLarge();
      throw error;
    }
  }

  #tooLarge(): FleetError {
    return new FleetError(
      'resource_exhausted',
      `Cannot scrape ${this.#shown}: its answer is larger than ${this.#limit} bytes`,
      { retryable: true },
    );
  }
}
