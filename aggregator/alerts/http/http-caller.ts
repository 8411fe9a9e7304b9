import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import * as v from 'valibot';
import { httpUrl } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Delivery } from '../notify/notification.ts';
import { caFile, readAuthority } from './ca-file.ts';

/** Settings of every receiver that speaks HTTP. */
export const httpSettings = {
  ca_file: caFile,
  proxy_url: v.optional(httpUrl),
};

export interface HttpSettings {
  readonly ca_file?: string | undefined;
  readonly proxy_url?: string | undefined;
}

/** A URL that is safe to show: no credentials in it, which belong into files. */
export const plainUrl = v.pipe(
  httpUrl,
  v.check((text) => {
    const { username, password } = new URL(text);
    return username === '' && password === '';
  }, 'must not hold a user or password: they belong into files'),
);

export interface HttpRequest {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON. */
  readonly body: string;
  readonly signal: AbortSignal;
  /** Blotted out wherever the answer or an error repeats them. */
  readonly secrets?: readonly string[];
}

/** A delivery, and what the other side said where it took the request. */
export interface HttpOutcome {
  readonly delivery: Delivery;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** At most 64 KiB, secrets blotted out. */
  readonly text: string;
}

/** None of the services answers with more than a few hundred bytes; own judgement. */
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_WORDS = 200;
/** Whoever asks for more may change their mind: own judgement. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** Sends at once to one place; the dispatcher's rate limit is far below. */
const CONNECTIONS = 4;

/**
 * POSTs JSON, once, and says what became of it: 2xx is sent; 408, 429, 5xx and no answer are worth another try; all
 * else is refused, redirects too (they would carry secrets to another place).
 */
export class HttpCaller {
  readonly #dispatcher: Dispatcher;
  readonly #clock: Clock;

  /** Throws `invalid_config` where `ca_file` cannot be read. */
  constructor({ ca_file, proxy_url }: HttpSettings, clock: Clock) {
    const tls = ca_file === undefined ? {} : { ca: readAuthority(ca_file) };
    // A new connection each time: notifications are rare, and one that the other side has closed meanwhile would
    // fail a request that nobody knows to have arrived.
    const options = { connections: CONNECTIONS, pipelining: 0, allowH2: false };
    this.#dispatcher =
      proxy_url === undefined
        ? new Agent({ ...options, connect: tls })
        : new ProxyAgent({ ...options, uri: proxy_url, requestTls: tls });
    this.#clock = clock;
  }

  /** Never rejects, except when the signal is aborted. */
  async post({ url, headers = {}, body, signal, secrets = [] }: HttpRequest): Promise<HttpOutcome> {
    try {
      const response = await request(url, {
        dispatcher: this.#dispatcher,
        method: 'POST',
        headers: { 'content-type': 'application/json', 'user-agent': 'gpufleet', ...headers },
        body,
        signal,
      });
      const status = response.statusCode;
      const text = blot(await answerText(response.body, status), secrets);
      const retryAfter = header(response.headers['retry-after']);
      return { delivery: judged(status, text, retryAfter, this.#clock.now()), status, text };
    } catch (error) {
      signal.throwIfAborted();
      const why = blot(`no answer: ${describeError(error)}`, secrets);
      return { delivery: { outcome: 'retry', why }, status: 0, text: '' };
    }
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

/** `Retry-After` (RFC 9110, 10.2.3: seconds or a date) in ms, at most an hour; undefined where it says neither. */
export function retryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : undefined;
  const ms = seconds === undefined ? Date.parse(value) - nowMs : seconds * 1_000;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

function judged(status: number, text: string, retryAfter: string | undefined, nowMs: number): Delivery {
  if (status >= 200 && status < 300) return { outcome: 'sent' };
  const words = text.replaceAll(/\s+/g, ' ').trim().slice(0, MAX_WORDS).toWellFormed();
  const why = `it answered ${status}${words && `: ${words}`}`;
  if (status < 500 && status !== 429 && status !== 408) return { outcome: 'refused', why };
  const afterMs = retryAfterMs(retryAfter, nowMs);
  return { outcome: 'retry', why, ...(afterMs !== undefined && { afterMs }) };
}

/** The beginning of the answer. Once the status says that it was taken, an answer that breaks off changes nothing. */
async function answerText(body: AsyncIterable<Uint8Array>, status: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of body) {
      parts.push(part);
      length += part.length;
      if (length > MAX_ANSWER_BYTES) break;
    }
  } catch (error) {
    if (status < 200 || status > 299) throw error;
  }
  return Buffer.concat(parts).toString().slice(0, MAX_ANSWER_BYTES);
}

function blot(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) if (secret !== '') clean = clean.replaceAll(secret, '***');
  return clean;
}

function header(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
