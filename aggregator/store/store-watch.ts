import { createHash } from 'node:crypto';
import { Pool } from 'undici';
import { parseDuration } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';

export interface StoreFacts {
  /** Identity of the store's incarnation; 0 where it cannot be known. */
  readonly epoch: bigint;
  /** When the epoch was read, monotonic ms: before the request was sent. */
  readonly readAt: number;
  /** Repeated samples are made one (`-dedup.minScrapeInterval`). */
  readonly deduplicates: boolean;
  /** How far back samples are kept, ms; undefined where unknown. */
  readonly retentionMs: number | undefined;
  /** Rows that the store answered 2xx for and dropped, since it started. */
  readonly ignoredRows: number;
}

/** VictoriaMetrics drops samples further ahead than this, with a 204 (measured on 1.79). */
export const MAX_AHEAD_MS = 2 * 86_400_000;

const POLL_EVERY_MS = 5_000;
const POLL_TIMEOUT_MS = 5_000;
/** /metrics of a VictoriaMetrics is about 100 KB. */
const MAX_METRICS_BYTES = 16 * 2 ** 20;
const MONTH_MS = 31 * 86_400_000;

export interface StoreWatchOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onChange: (facts: StoreFacts, before: StoreFacts | undefined) => void;
}

/**
 * Reads the store's own /metrics: its incarnation, whether it deduplicates, how long it keeps samples, and what
 * it ignored. A 2xx of the store proves nothing of all that.
 */
export class StoreWatch implements AsyncDisposable {
  readonly #options: StoreWatchOptions;
  readonly #pool: Pool;
  readonly #path: string;
  #facts: StoreFacts | undefined;
  #reading: Promise<StoreFacts | undefined> | undefined;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
    const base = new URL(options.url);
    this.#pool = new Pool(base.origin, {
      connections: 1,
      headersTimeout: POLL_TIMEOUT_MS,
      bodyTimeout: POLL_TIMEOUT_MS,
    });
    this.#path = `${base.pathname.replace(/\/$/, '')}/metrics`;
  }

  /** What is known; undefined until the store has answered once. */
  get facts(): StoreFacts | undefined {
    return this.#facts;
  }

  async run(signal: AbortSignal): Promise<void> {
    void this.read();
    await repeat(POLL_EVERY_MS, signal, () => void this.read());
  }

  /** Reads now, or joins the read under way. Undefined where the store does not answer. */
  async read(): Promise<StoreFacts | undefined> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reading?.catch(() => {});
    if (!this.#pool.destroyed) await this.#pool.destroy();
  }

  async #read(): Promise<StoreFacts | undefined> {
    const { clock, logger, onChange } = this.#options;
    const readAt = clock.monotonic();
    try {
      const { statusCode, body } = await this.#pool.request({
        path: this.#path,
        method: 'GET',
        signal: AbortSignal.timeout(POLL_TIMEOUT_MS),
      });
      const text = await readLimited(body, MAX_METRICS_BYTES);
      if (statusCode === 404)
        return this.#set(
          { epoch: 0n, readAt, deduplicates: false, retentionMs: undefined, ignoredRows: 0 },
          onChange,
        );
      if (statusCode !== 200) return undefined;
      return this.#set(parseStoreMetrics(text, readAt), onChange);
    } catch (error) {
      logger.debug({ cause: describeError(error) }, 'cannot read the metrics of the store');
      return undefined;
    }
  }

  #set(facts: StoreFacts, onChange: StoreWatchOptions['onChange']): StoreFacts {
    const before = this.#facts;
    this.#facts = facts;
    onChange(facts, before);
    return facts;
  }
}

export function parseStoreMetrics(text: string, readAt: number): StoreFacts {
  const started = /^vm_app_start_timestamp(?:\{[^}]*\})? (\S+)$/m.exec(text)?.[1];
  const dedup = /^flag\{name="dedup\.minScrapeInterval",\s*value="([^"]*)"/m.exec(text)?.[1];
  const retention = /^flag\{name="retentionPeriod",\s*value="([^"]*)"/m.exec(text)?.[1];
  let ignoredRows = 0;
  for (const [, rows] of text.matchAll(/^vm_rows_ignored_total(?:\{[^}]*\})? (\S+)$/gm))
    ignoredRows += Number(rows) || 0;
  return {
    epoch:
      started === undefined ? 0n : createHash('sha256').update(started).digest().readBigUInt64LE(0) || 1n,
    readAt,
    deduplicates: dedup !== undefined && dedup !== '' && !/^0[a-z]*$/.test(dedup),
    retentionMs: retention === undefined ? undefined : parseRetention(retention),
    ignoredRows,
  };
}

/** VictoriaMetrics' -retentionPeriod: a bare number is months; h, d, w, y are hours, days, weeks, years. */
function parseRetention(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([hdwy]?)$/.exec(text);
  if (!match) return parseDuration(text);
  const unit = { '': MONTH_MS, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000, y: 365 * 86_400_000 }[
    match[2] as '' | 'h' | 'd' | 'w' | 'y'
  ];
  return Number(match[1]) * unit;
}

async function readLimited(body: AsyncIterable<Uint8Array>, limit: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > limit)
      throw new FleetError('resource_exhausted', `Cannot read answer: it is larger than ${limit} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
