import { readFileSync } from 'node:fs';
import { type Dispatcher, Pool } from 'undici';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { retryAfterMs } from '../../http/http-caller.ts';
import { SecretFile } from '../../http/secret-file.ts';

export interface KubernetesApiOptions {
  /** https://host:port */
  readonly url: string;
  readonly caFile: string;
  readonly tokenFile: string;
  /** Of one request. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

export interface KubernetesAnswer {
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** The object of a 2xx; else undefined. */
  readonly object: Readonly<Record<string, unknown>> | undefined;
  /** What a Status object says where it is none, or why there was no answer. */
  readonly why: string;
  readonly retryAfterMs: number | undefined;
}

/** A page of pods is 2 MB at 20 KB each; more is no answer of an API server. */
const MAX_BYTES = 16 * 2 ** 20;
const CONNECTIONS = 2;
const CONTENT_TYPE = { PATCH: 'application/merge-patch+json', POST: 'application/json' } as const;

/**
 * The API server, as a service account: TLS with the cluster's authority, and the bearer token, both read again when
 * their files change (the kubelet rotates a projected token about every hour). Never rejects.
 */
export class KubernetesApi implements AsyncDisposable {
  readonly #options: KubernetesApiOptions;
  readonly #base: URL;
  readonly #token: SecretFile;
  #pool: Pool | undefined;
  #authority = '';

  constructor(options: KubernetesApiOptions) {
    this.#options = options;
    this.#base = new URL(options.url);
    this.#token = new SecretFile(options.tokenFile);
  }

  /** `path` is below the server's, with what it needs escaped; `body` goes as JSON, of PATCH as a merge patch. */
  async request(
    method: 'GET' | 'PATCH' | 'POST',
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<KubernetesAnswer> {
    try {
      const response = await this.#connected().request({
        method,
        path: `${this.#base.pathname.replace(/\/$/, '')}${path}`,
        headers: {
          accept: 'application/json',
          authorization: `Bearer ${this.#token.read()}`,
          'user-agent': 'gpufleet',
          ...(method !== 'GET' && { 'content-type': CONTENT_TYPE[method] }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal,
      });
      return answerOf(response, await textOf(response.body), this.#options.clock.now());
    } catch (error) {
      const why = `no answer of ${this.#base.host}: ${describeError(error)}`;
      return { status: 0, object: undefined, why, retryAfterMs: undefined };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool?.destroy();
  }

  #connected(): Pool {
    const { caFile, timeoutMs } = this.#options;
    const authority = readFileSync(caFile, 'utf8');
    if (!this.#pool || authority !== this.#authority) {
      void this.#pool?.close();
      this.#authority = authority;
      this.#pool = new Pool(this.#base.origin, {
        connections: CONNECTIONS,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        allowH2: false,
        connect: { ca: authority, timeout: timeoutMs },
      });
    }
    return this.#pool;
  }
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > MAX_BYTES) throw new Error(`its answer is longer than ${MAX_BYTES / 2 ** 20} MiB`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function answerOf(response: Dispatcher.ResponseData, text: string, nowMs: number): KubernetesAnswer {
  const status = response.statusCode;
  const object = objectOf(text);
  const ok = status >= 200 && status < 300;
  if (ok && object) return { status, object, why: '', retryAfterMs: undefined };
  if (ok)
    return { status: 0, object: undefined, why: 'its answer is no JSON object', retryAfterMs: undefined };
  const words = typeof object?.message === 'string' ? object.message : text;
  const header = response.headers['retry-after'];
  return {
    status,
    object: undefined,
    why: `the API server answered ${status}: ${words.replaceAll(/\s+/g, ' ').trim().slice(0, 300)}`,
    retryAfterMs: retryAfterMs(Array.isArray(header) ? header[0] : header, nowMs),
  };
}

function objectOf(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
