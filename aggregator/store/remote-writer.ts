import { compress } from 'snappy';
import { Pool } from 'undici';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import { WriteBatch } from './write-batch.ts';
import { writerMetrics } from './writer-metrics.ts';

/** What became of a block. Accepted is the store's 2xx under `epoch`; deferred is "keep it and send it again". */
export type WriteOutcome =
  | { readonly state: 'accepted'; readonly epoch: bigint }
  | { readonly state: 'deferred' };

export interface RemoteWriterOptions {
  /** Base URL of the store; /api/v1/write is added. */
  readonly url: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** The store's incarnation as last read, or undefined before the first answer. Read before each request. */
  readonly epoch: () => bigint | undefined;
  /** Reads it now: after the first success, and after trouble. */
  readonly readEpoch: () => Promise<unknown>;
  readonly onAvailability: (available: boolean) => void;
  readonly logger: Logger;
  readonly registry: Registry;
}

const DEFERRED: WriteOutcome = { state: 'deferred' };

/** Samples wait this long for company: a request costs the store about as much as 2,000 samples. */
const LINGER_MS = 20;
const REQUESTS_IN_FLIGHT = 3;
/** Raw bytes held for the store, open, queued and in flight; beyond it blocks are deferred. */
const MAX_HELD_BYTES = 64 * 2 ** 20;
/** Above this share of it, agents stop sending backlog. */
const BACKFILL_SHARE = 0.5;
/** VictoriaMetrics queues a request for up to a minute before it answers 503. */
const REQUEST_TIMEOUT_MS = 70_000;
const RETRY_FIRST_MS = 100;
const RETRY_LONGEST_MS = 30_000;
/** A Retry-After is a floor, up to this, ms. */
const RETRY_AFTER_LONGEST_MS = 300_000;
const MAX_ERROR_BODY = 4096;

const HEADERS = {
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  'user-agent': 'gpufleet',
};

/** Statuses that mean the samples themselves are at fault. 413 too: a smaller request may pass. */
const CONTENT_FAULTS = new Set([400, 409, 413, 415, 422]);

interface Queued {
  readonly batch: WriteBatch;
  readonly done: PromiseWithResolvers<WriteOutcome>;
}

/**
 * Remote write 1.0 to one store. Blocks of all streams share requests; a request is tried until the store takes
 * it, and what it refuses for its content is cut down to the series at fault, so that one poison series stops
 * nobody. Nothing is kept on disk here: the fleet is the write-ahead log, and a deferred block comes again.
 */
export class RemoteWriter implements AsyncDisposable {
  readonly #options: RemoteWriterOptions;
  readonly #pool: Pool;
  readonly #path: string;
  readonly #queue: Queued[] = [];
  readonly #free: WriteBatch[] = [];
  readonly #closing = new AbortController();
  /** Aborts when the store answers again: whoever waits to retry need not wait on. */
  #back = new AbortController();
  readonly #metrics;
  #open: Queued = newQueued(undefined);
  #linger: NodeJS.Timeout | undefined;
  #heldBytes = 0;
  #inFlight = new Set<Promise<void>>();
  #available = true;

  constructor(options: RemoteWriterOptions) {
    this.#options = options;
    const base = new URL(options.url);
    this.#pool = new Pool(base.origin, {
      connections: REQUESTS_IN_FLIGHT,
      headersTimeout: REQUEST_TIMEOUT_MS,
      bodyTimeout: REQUEST_TIMEOUT_MS,
    });
    this.#path = `${base.pathname.replace(/\/$/, '')}/api/v1/write`;
    this.#metrics = writerMetrics(options.registry, () => ({
      heldBytes: this.#heldBytes,
      available: this.#available,
    }));
  }

  /** The store answers. */
  get available(): boolean {
    return this.#available;
  }

  /** There is room for backlog beside the live samples. */
  get backfillOpen(): boolean {
    return this.#available && this.#heldBytes < MAX_HELD_BYTES * BACKFILL_SHARE;
  }

  /**
   * Takes a block's samples: they are copied before this returns. Resolves with what became of them; never
   * rejects.
   */
  offer(block: Block): Promise<WriteOutcome> {
    if (this.#heldBytes >= MAX_HELD_BYTES || this.#closing.signal.aborted) {
      this.#metrics.deferredBlocks.inc();
      return Promise.resolve(DEFERRED);
    }
    const slots = block.dictionary.series.length;
    let result = this.#open.done.promise;
    let slot = 0;
    for (;;) {
      const before = this.#open.batch.byteLength;
      slot = this.#open.batch.append(block, slot);
      this.#heldBytes += this.#open.batch.byteLength - before;
      const own = this.#open.done.promise;
      if (this.#open.batch.isFull) this.#close();
      if (slot >= slots) {
        this.#linger ??= setTimeout(() => this.#close(), LINGER_MS);
        return result === own ? own : Promise.all([result, own]).then(worse);
      }
      result = result === own ? own : Promise.all([result, own]).then(worse);
    }
  }

  /** Sends what is held and waits for it, up to a moment; what is left is deferred, and comes again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    const drained = (async () => {
      while (this.#inFlight.size > 0 && !this.#closing.signal.aborted) await Promise.race(this.#inFlight);
    })();
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, 2_000).unref())]);
    this.#closing.abort();
    await Promise.allSettled(this.#inFlight);
    for (const queued of this.#queue.splice(0)) queued.done.resolve(DEFERRED);
    if (!this.#pool.destroyed) await this.#pool.destroy();
  }

  /** Closes the open batch and hands it to the senders. */
  #close(): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    if (this.#open.batch.samples === 0) {
      // A block without one present sample: nothing to store, so it is stored.
      const { done } = this.#open;
      this.#open = newQueued(this.#open.batch);
      done.resolve({ state: 'accepted', epoch: this.#options.epoch() ?? 0n });
      return;
    }
    this.#queue.push(this.#open);
    this.#open = newQueued(this.#free.pop());
    this.#send();
  }

  #send(): void {
    while (this.#inFlight.size < REQUESTS_IN_FLIGHT && this.#queue.length > 0) {
      const queued = this.#queue.shift()!;
      const sending = this.#deliver(queued).finally(() => {
        this.#inFlight.delete(sending);
        this.#send();
      });
      this.#inFlight.add(sending);
    }
  }

  async #deliver({ batch, done }: Queued): Promise<void> {
    // The incarnation as known before the request: were it read after, samples that the old one took and lost
    // could be booked on the new one.
    if (this.#options.epoch() === undefined) await this.#options.readEpoch();
    let epoch = this.#options.epoch();
    const stored = await this.#write(batch, 0, batch.samples);
    if (epoch === undefined) {
      // The store came up between the two: only a write that begins after its incarnation is known counts.
      await this.#options.readEpoch();
      epoch = this.#options.epoch();
      done.resolve(DEFERRED);
    } else {
      done.resolve(stored ? { state: 'accepted', epoch } : DEFERRED);
    }
    this.#heldBytes -= batch.byteLength;
    batch.clear();
    if (this.#free.length < REQUESTS_IN_FLIGHT) this.#free.push(batch);
  }

  /** True when the store has taken everything that it will ever take of these series; false when closing. */
  async #write(batch: WriteBatch, from: number, to: number): Promise<boolean> {
    const body = await compress(batch.slice(from, to));
    for (let attempt = 0; !this.#closing.signal.aborted; attempt++) {
      const answer = await this.#post(body);
      if (answer.status >= 200 && answer.status < 300) {
        this.#setAvailable(true);
        this.#metrics.samples.inc(to - from);
        this.#metrics.bytes.inc(body.length);
        return true;
      }
      if (CONTENT_FAULTS.has(answer.status)) return this.#bisect(batch, from, to, answer);
      this.#metrics.retries.inc({ status: String(answer.status) });
      this.#setAvailable(false, answer);
      const backoff =
        this.#options.random() * Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(attempt, 20));
      const wait = Math.max(backoff, answer.retryAfterMs * (1 + 0.2 * this.#options.random()));
      // What the store itself asked for is waited out.
      const early = answer.retryAfterMs > 0 ? [] : [this.#back.signal];
      await sleep(wait, AbortSignal.any([this.#closing.signal, ...early]));
    }
    return false;
  }

  /** Halves the request until the series at fault stands alone; that one is refused, the rest goes on. */
  async #bisect(batch: WriteBatch, from: number, to: number, answer: Answer): Promise<boolean> {
    if (to - from > 1) {
      const middle = (from + to) >>> 1;
      const first = await this.#write(batch, from, middle);
      return (await this.#write(batch, middle, to)) && first;
    }
    this.#metrics.poison.inc();
    const series = batch
      .slice(from, to)
      .toString('latin1')
      .replace(/[^\x20-\x7e]+/g, ' ')
      .slice(0, 500);
    this.#options.logger.error(
      { status: answer.status, answer: answer.text, series },
      'the store refuses a series: it is left out',
    );
    return true;
  }

  async #post(body: Buffer): Promise<Answer> {
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(REQUEST_TIMEOUT_MS), this.#closing.signal]);
      const response = await this.#pool.request({
        path: this.#path,
        method: 'POST',
        headers: HEADERS,
        body,
        signal,
      });
      const text = response.statusCode === 204 ? '' : (await response.body.text()).slice(0, MAX_ERROR_BODY);
      if (response.statusCode === 204) await response.body.dump();
      return {
        status: response.statusCode,
        text,
        retryAfterMs: retryAfter(response.headers['retry-after'], this.#options.clock.now()),
      };
    } catch (error) {
      return { status: 0, text: describeError(error), retryAfterMs: 0 };
    }
  }

  #setAvailable(available: boolean, answer?: Answer): void {
    if (available === this.#available) return;
    this.#available = available;
    const { logger } = this.#options;
    if (available) logger.info('the store takes samples again');
    else
      logger.error(
        { status: answer?.status, answer: answer?.text },
        'the store takes nothing: agents keep their samples, live state and alerts go on',
      );
    if (available) {
      this.#back.abort();
      this.#back = new AbortController();
      // A store that was away may be another incarnation.
      void this.#options.readEpoch();
    }
    this.#options.onAvailability(available);
  }
}

interface Answer {
  /** HTTP status; 0 where there was none. */
  readonly status: number;
  readonly text: string;
  readonly retryAfterMs: number;
}

function newQueued(batch: WriteBatch | undefined): Queued {
  return { batch: batch ?? new WriteBatch(), done: Promise.withResolvers<WriteOutcome>() };
}

function worse([a, b]: readonly WriteOutcome[]): WriteOutcome {
  return a!.state === 'deferred' ? a! : b!;
}

/** Seconds or an HTTP date, as ms from now, within bounds. */
export function retryAfter(header: string | string[] | undefined, now: number): number {
  const text = Array.isArray(header) ? header[0] : header;
  if (text === undefined) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), RETRY_AFTER_LONGEST_MS) : 0;
}
