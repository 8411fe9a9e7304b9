import { Pool } from 'undici';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { StoreAccess } from './store-access.ts';

export interface EndpointOptions {
  /** Base URL: paths are added to its own. */
  readonly url: string;
  readonly connections: number;
  readonly timeoutMs: number;
  readonly access: StoreAccess | undefined;
  /** Another host than the store's: the configured server name is not its. */
  readonly otherHost?: boolean;
}

export interface StoreRequest {
  readonly method: 'GET' | 'POST';
  /** Added to the base URL's path. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal;
  /** Longest answer; of an error only the first 4 KiB are kept whatever its length. */
  readonly maxBytes: number;
}

export interface StoreAnswer {
  /** HTTP status; 0 where there was none. */
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | undefined;
}

const MAX_ERROR_BYTES = 4_096;
/** What a connection that the server has closed meanwhile looks like. */
const CLOSED = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/** HTTP to one server of the store: credentials, TLS, limits. Never throws: no answer is status 0. */
export class StoreEndpoint implements AsyncDisposable {
  readonly #pool: Pool;
  readonly #base: string;
  readonly #access: StoreAccess | undefined;
  readonly #timeoutMs: number;

  constructor({ url, connections, timeoutMs, access, otherHost = false }: EndpointOptions) {
    const base = new URL(url);
    const { servername, ...tls } = access?.tls ?? {};
    this.#pool = new Pool(base.origin, {
      connections,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      allowH2: false,
      connect: { ...tls, ...(servername !== undefined && !otherHost && { servername }) },
    });
    this.#base = base.pathname.replace(/\/$/, '');
    this.#access = access;
    this.#timeoutMs = timeoutMs;
  }

  async request(request: StoreRequest): Promise<StoreAnswer> {
    let answer = await this.#try(request);
    // A secret that was rotated is no fault: once more, with the new one.
    if (answer.status === 401 && this.#access?.refresh()) answer = await this.#try(request);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#pool.destroyed) await this.#pool.destroy();
  }

  async #try(request: StoreRequest): Promise<StoreAnswer> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(request);
      } catch (error) {
        // An idle connection may be closed at the moment of its use: that says nothing about the store.
        const code = (error as { code?: unknown }).code;
        if (attempt === 0 && CLOSED.has(String(code)) && !request.signal?.aborted) continue;
        return { status: 0, text: describeError(error), retryAfter: undefined };
      }
    }
  }

  async #once({ method, path, headers, body, signal, maxBytes }: StoreRequest): Promise<StoreAnswer> {
    const timeout = AbortSignal.timeout(this.#timeoutMs);
    const authorization = this.#access?.authorization;
    const response = await this.#pool.request({
      path: `${this.#base}${path}`,
      method,
      headers: { ...headers, ...(authorization !== undefined && { authorization }) },
      body: body ?? null,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    const retryAfter = response.headers['retry-after'];
    const failed = response.statusCode > 299;
    const text = await readAnswer(response.body, failed ? MAX_ERROR_BYTES : maxBytes, failed);
    return {
      status: response.statusCode,
      text,
      retryAfter: Array.isArray(retryAfter) ? retryAfter[0] : retryAfter,
    };
  }
}

/** Of an error the beginning will do; of an answer a part would be wrong. */
async function readAnswer(body: AsyncIterable<Uint8Array>, limit: number, cut: boolean): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    parts.push(part);
    if (length <= limit) continue;
    if (!cut)
      throw new FleetError('resource_exhausted', `Cannot read answer: it is larger than ${limit} bytes`);
    break;
  }
  return Buffer.concat(parts).toString().slice(0, limit);
}
