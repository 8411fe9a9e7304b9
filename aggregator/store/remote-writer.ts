import { compress, uncompress } from 'snappy';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import { retryAfterMs, retryWait, verdictOf } from './answer-policy.ts';
import { ConcurrencyLimit, MAX_CONCURRENCY } from './concurrency-limit.ts';
import { type DeadLetter, deadLetterOf } from './dead-letter.ts';
import { PathCircuit } from './path-circuit.ts';
import { singleSample } from './series-template.ts';
import type { StoreAccess } from './store-access.ts';
import { type StoreAnswer, StoreEndpoint } from './store-endpoint.ts';
import { seriesStarts } from './time-series.ts';
import { WaitingTicks } from './waiting-ticks.ts';
import { MAX_BATCH_SAMPLES, MAX_SPAN_BATCH_SAMPLES, SpanCursor, WriteBatch } from './write-batch.ts';
import { writerMetrics } from './writer-metrics.ts';

/** What became of a block. Accepted is the store's 2xx under `epoch`; deferred is "keep it and send it again". */
export type WriteOutcome =
  | { readonly state: 'accepted'; readonly epoch: bigint }
  | { readonly state: 'deferred' };

export interface RemoteWriterOptions {
  /** Base URL of the store; /api/v1/write is added. */
  readonly url: string;
  readonly access?: StoreAccess | undefined;
  /** Label of the series that tells a fault of the path from a fault of the content. */
  readonly shard: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** The store's incarnation as last read, or undefined before the first answer. Read before each request. */
  readonly epoch: () => bigint | undefined;
  /** Reads it now: after the first success, and after trouble. */
  readonly readEpoch: () => Promise<unknown>;
  readonly onAvailability: (available: boolean) => void;
  /** Awaited before the samples count as settled; where it throws, the block is deferred. */
  readonly onDeadLetter: (letter: DeadLetter) => Promise<void> | void;
  readonly logger: Logger;
  readonly registry: Registry;
  /** A store that has been away for so long gets nothing new, ms; 10 s by default. */
  readonly awayHoldMs?: number;
}

const DEFERRED: WriteOutcome = { state: 'deferred' };

/** Samples wait this long for company: a request costs the store about as much as 2,000 samples. */
const LINGER_MS = 250;
/** Bytes held for the store: waiting, open, queued and in flight; beyond it everything is deferred. */
const MAX_HELD_BYTES = 64 * 2 ** 20;
/** Of it backlog may fill a quarter: live samples always find room. */
const MAX_HELD_SPAN_BYTES = MAX_HELD_BYTES / 4;
/** Agents stop sending backlog above this: a store takes one to three million of its samples a second. */
const BACKFILL_HELD_SAMPLES = 1_000_000;
/** And while so many live samples wait: the store is behind, and they go first. */
const BACKFILL_LIVE_WAITING = 4 * MAX_BATCH_SAMPLES;
/** Empty requests that are kept while there is backlog: as many as it may fill. */
const MAX_FREE = BACKFILL_HELD_SAMPLES / MAX_SPAN_BATCH_SAMPLES + MAX_CONCURRENCY;
/** What waits for a store that is away longer than this comes again as backlog: agents' windows must not fill. */
const AWAY_HOLD_MS = 10_000;
/** Longer than VictoriaMetrics queues a request before it answers 503 (-insert.maxQueueDuration, a minute). */
const REQUEST_TIMEOUT_MS = 70_000;
/** A store that took something this recently takes what is fit to be taken. */
const FRESH_SUCCESS_MS = 10_000;
/** Requests are not made smaller than this after a 413. */
const MIN_BATCH_SAMPLES = 500;
/** When closing, what is held is written for so long; the rest is deferred. */
const DRAIN_MS = 2_000;

const WRITE_PATH = '/api/v1/write';
const HEADERS = {
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  'user-agent': 'gpufleet',
};
/** Of an answer to a write. */
const MAX_ANSWER_BYTES = 64 * 1024;

interface Queued {
  readonly batch: WriteBatch;
  readonly done: PromiseWithResolvers<WriteOutcome>;
}

/** Requests of one kind, filling, and waiting to be sent. */
class Lane {
  readonly queue: Queued[] = [];
  open: Queued = newQueued();
  linger: NodeJS.Timeout | undefined;
  heldBytes = 0;
  heldSamples = 0;
  inFlight = 0;
}

/**
 * Remote write 1.0 to one store. Blocks of all streams share requests; a request is tried until the store takes
 * it, and what it refuses for its content is cut down to the series at fault, so that one poison series stops
 * nobody. Live samples go before backlog and never share a request with it. Nothing is kept on disk here: the
 * fleet is the write-ahead log, and a deferred block comes again.
 */
export class RemoteWriter implements AsyncDisposable {
  readonly #options: RemoteWriterOptions;
  readonly #endpoint: StoreEndpoint;
  readonly #live = new Lane();
  readonly #spans = new Lane();
  readonly #waiting = new WaitingTicks<WriteOutcome>();
  readonly #free: WriteBatch[] = [];
  readonly #closing = new AbortController();
  readonly #concurrency = new ConcurrencyLimit();
  readonly #circuit: PathCircuit;
  /** Aborts when the store answers again: whoever waits to retry need not wait on. */
  #back = new AbortController();
  readonly #metrics;
  readonly #inFlight = new Set<Promise<void>>();
  #available = true;
  #deferringAway = false;
  #awayTimer: NodeJS.Timeout | undefined;
  /** As the store's refusals have shown. */
  #maxSamples = MAX_SPAN_BATCH_SAMPLES;
  /** Monotonic ms. */
  #lastSuccess = Number.NEGATIVE_INFINITY;

  constructor(options: RemoteWriterOptions) {
    this.#options = options;
    this.#endpoint = new StoreEndpoint({
      url: options.url,
      // One more than may be in flight, for live samples, and one for probes and dead letters.
      connections: MAX_CONCURRENCY + 2,
      timeoutMs: REQUEST_TIMEOUT_MS,
      access: options.access,
    });
    this.#circuit = new PathCircuit(options.random);
    this.#metrics = writerMetrics(options.registry, () => ({
      heldBytes: this.#heldBytes,
      heldSamples: {
        live: this.#live.heldSamples + this.#waiting.samples,
        backlog: this.#spans.heldSamples,
      },
      available: this.#available,
      concurrency: this.#concurrency.limit,
      pathFault: this.#circuit.fault,
    }));
  }

  /** The store answers. */
  get available(): boolean {
    return this.#available;
  }

  /** HTTP status of a fault of the path; undefined where there is none. */
  get pathFault(): number | undefined {
    return this.#circuit.fault;
  }

  /** There is room for backlog beside the live samples. */
  get backfillOpen(): boolean {
    return (
      this.#available &&
      this.#spans.heldSamples < BACKFILL_HELD_SAMPLES &&
      this.#spans.heldBytes < MAX_HELD_SPAN_BYTES / 2 &&
      this.#waiting.samples < BACKFILL_LIVE_WAITING
    );
  }

  /**
   * Takes a block's samples: they are copied before this returns. Resolves with what became of them; never
   * rejects.
   */
  offer(block: Block): Promise<WriteOutcome> {
    if (this.#refuses(this.#heldBytes >= MAX_HELD_BYTES)) {
      this.#metrics.deferredBlocks.inc({ lane: 'live' });
      return Promise.resolve(DEFERRED);
    }
    // The store is behind: what it cannot take yet is kept so that it costs it less.
    if (this.#live.queue.length > 0 || !this.#waiting.isEmpty) return this.#waiting.add(block);
    const slots = block.dictionary.series.length;
    let position = 0;
    const outcome = this.#fill(this.#live, MAX_BATCH_SAMPLES, (batch) => {
      position = batch.append(block, position);
      return position >= slots;
    });
    this.#send();
    return outcome;
  }

  /** The same for backlog. */
  offerSpan(span: BlockSpan): Promise<WriteOutcome> {
    const full = this.#heldBytes >= MAX_HELD_BYTES || this.#spans.heldBytes >= MAX_HELD_SPAN_BYTES;
    if (this.#refuses(full)) {
      this.#metrics.deferredBlocks.inc({ lane: 'backlog' });
      return Promise.resolve(DEFERRED);
    }
    const outcome = this.#fillSpan(this.#spans, span);
    this.#send();
    return outcome;
  }

  /** Offers one request to the store, uncompressed, and once: for canaries and dead letters. */
  async post(request: Buffer): Promise<StoreAnswer> {
    const answer = await this.#post(await compress(request));
    if (verdictOf(answer.status) === 'accepted') this.#lastSuccess = this.#options.clock.monotonic();
    return answer;
  }

  /** The store's metrics answer again: a fault of the path may be over too. */
  wake(): void {
    this.#circuit.wake();
  }

  /** Sends what is held and waits for it, up to a moment; what is left is deferred, and comes again. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const lane of [this.#live, this.#spans]) this.#close(lane);
    this.#send();
    const drained = (async () => {
      while (this.#inFlight.size > 0 && !this.#closing.signal.aborted) await Promise.race(this.#inFlight);
    })();
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, DRAIN_MS).unref())]);
    this.#closing.abort();
    clearTimeout(this.#awayTimer);
    await Promise.allSettled(this.#inFlight);
    this.#deferQueued();
    await this.#endpoint[Symbol.asyncDispose]();
  }

  get #heldBytes(): number {
    return this.#live.heldBytes + this.#waiting.bytes + this.#spans.heldBytes;
  }

  #refuses(full: boolean): boolean {
    return full || this.#deferringAway || this.#closing.signal.aborted;
  }

  #fillSpan(lane: Lane, span: BlockSpan): Promise<WriteOutcome> {
    const cursor = new SpanCursor(span);
    return this.#fill(lane, MAX_SPAN_BATCH_SAMPLES, (batch) => {
      batch.appendSpan(cursor);
      return cursor.done;
    });
  }

  /** Lets `append` fill requests until it says that it is done; resolves when all of them are settled. */
  #fill(lane: Lane, maxSamples: number, append: (batch: WriteBatch) => boolean): Promise<WriteOutcome> {
    let result = lane.open.done.promise;
    for (;;) {
      const { batch, done } = lane.open;
      if (batch.samples === 0) batch.clear(Math.min(maxSamples, this.#maxSamples));
      const [bytes, samples] = [batch.byteLength, batch.samples];
      const finished = append(batch);
      lane.heldBytes += batch.byteLength - bytes;
      lane.heldSamples += batch.samples - samples;
      if (result !== done.promise) result = Promise.all([result, done.promise]).then(worse);
      if (batch.isFull || !finished) this.#close(lane);
      if (!finished) continue;
      // Where it was closed just now there is nothing that would have to linger.
      if (lane.open.done === done) lane.linger ??= setTimeout(() => this.#lingered(lane), LINGER_MS);
      return result;
    }
  }

  #lingered(lane: Lane): void {
    this.#close(lane);
    this.#send();
  }

  /** Closes the open request of a lane: it waits to be sent. */
  #close(lane: Lane): void {
    clearTimeout(lane.linger);
    lane.linger = undefined;
    const closed = lane.open;
    if (closed.batch.samples === 0) {
      // A block without one present sample: nothing to store, so it is stored.
      lane.open = newQueued(closed.batch);
      closed.done.resolve({ state: 'accepted', epoch: this.#options.epoch() ?? 0n });
      return;
    }
    lane.queue.push(closed);
    lane.open = newQueued(this.#free.pop());
  }

  /** Live first, and with one request more than backlog may have in flight: it never waits for all of those. */
  #send(): void {
    for (;;) {
      const total = this.#live.inFlight + this.#spans.inFlight;
      const { limit } = this.#concurrency;
      if (total > limit) return;
      if (this.#live.queue.length === 0) this.#gather();
      let lane: Lane;
      if (this.#live.queue.length > 0) lane = this.#live;
      else if (this.#spans.queue.length > 0 && total < limit) lane = this.#spans;
      else return;
      const queued = lane.queue.shift()!;
      lane.inFlight++;
      const sending = this.#deliver(lane, queued).finally(() => {
        lane.inFlight--;
        this.#inFlight.delete(sending);
        this.#send();
      });
      this.#inFlight.add(sending);
    }
  }

  /** Makes a request of the live ticks that have waited longest. */
  #gather(): void {
    if (this.#waiting.isEmpty) return;
    while (this.#live.queue.length === 0) {
      const taken = this.#waiting.take();
      if (!taken) break;
      taken.resolve(this.#fillSpan(this.#live, taken.span));
    }
    if (this.#live.queue.length === 0) this.#close(this.#live);
  }

  async #deliver(lane: Lane, { batch, done }: Queued): Promise<void> {
    done.resolve(await this.#outcome(batch).catch((error: unknown) => this.#failed(error)));
    lane.heldBytes -= batch.byteLength;
    lane.heldSamples -= batch.samples;
    this.#recycle(batch);
  }

  /** Memory that is given up and taken again makes V8 look through all of its heap several times a second. */
  #recycle(batch: WriteBatch): void {
    const most = this.#spans.heldSamples > 0 ? MAX_FREE : MAX_CONCURRENCY;
    if (this.#free.length < most) this.#free.push(batch);
    else this.#free.length = most;
  }

  async #outcome(batch: WriteBatch): Promise<WriteOutcome> {
    const { epoch: known, readEpoch } = this.#options;
    // The incarnation as known before the request: were it read after, samples that the old one took and lost
    // could be booked on the new one.
    if (known() === undefined) await readEpoch();
    const epoch = known();
    const stored = await this.#store(batch.body, batch.samples);
    // The store came up between the two: only a write that begins after its incarnation is known counts.
    if (epoch === undefined) await readEpoch();
    return stored && epoch !== undefined ? { state: 'accepted', epoch } : DEFERRED;
  }

  #failed(error: unknown): WriteOutcome {
    this.#options.logger.error({ cause: describeError(error) }, 'cannot write: the samples come again');
    return DEFERRED;
  }

  /** True when the store has taken everything that it will ever take of these series; false when closing. */
  async #store(body: Buffer, samples: number): Promise<boolean> {
    const answer = await this.#write(body, samples);
    if (answer === undefined) return false;
    if (verdictOf(answer.status) === 'accepted') return true;
    const request = (await uncompress(body)) as Buffer;
    const starts = seriesStarts(request);
    const sizeOf = samples / (starts.length - 1);
    return this.#bisect({ request, starts, sizeOf }, 0, starts.length - 1, answer);
  }

  /** Halves the request until the series at fault stands alone; that one is refused, the rest goes on. */
  async #bisect(whole: Refused, from: number, to: number, answer: StoreAnswer): Promise<boolean> {
    if (to - from === 1)
      return this.#alone(whole.request.subarray(whole.starts[from], whole.starts[to]), answer);
    if (answer.status === 413)
      this.#maxSamples = Math.max(
        MIN_BATCH_SAMPLES,
        Math.min(this.#maxSamples, Math.floor(((to - from) * whole.sizeOf) / 2)),
      );
    const middle = (from + to) >>> 1;
    for (const [start, end] of [
      [from, middle],
      [middle, to],
    ] as const) {
      const part = whole.request.subarray(whole.starts[start], whole.starts[end]);
      const next = await this.#write(await compress(part), Math.round((end - start) * whole.sizeOf));
      if (next === undefined) return false;
      if (verdictOf(next.status) !== 'accepted' && !(await this.#bisect(whole, start, end, next)))
        return false;
    }
    return true;
  }

  /**
   * One series that the store refuses. It is the series' fault only where the store takes another one: an address
   * that answers 400 or 413 to everything would else make a dead letter of the whole fleet.
   */
  async #alone(message: Buffer, refusal: StoreAnswer): Promise<boolean> {
    let answer = refusal;
    for (let attempt = 0; ; attempt++) {
      const others = answer.status === 413 ? 'no' : await this.#takesOthers();
      if (others === 'yes') return this.#giveUp(message, answer);
      if (others === 'no') this.#pathFault(answer);
      else await this.#wait(attempt, answer);
      const again = await this.#write(await compress(message), 1);
      if (again === undefined) return false;
      if (verdictOf(again.status) === 'accepted') return true;
      answer = again;
    }
  }

  /** Whether the store takes a sample that is beyond doubt. */
  async #takesOthers(): Promise<'yes' | 'no' | 'unknown'> {
    const { clock, shard } = this.#options;
    if (clock.monotonic() - this.#lastSuccess < FRESH_SUCCESS_MS) return 'yes';
    const labels = [
      ['__name__', 'gpufleet_store_probe'],
      ['shard', shard],
    ] as const;
    const verdict = verdictOf((await this.post(singleSample(labels, 1, clock.now()))).status);
    if (verdict === 'accepted') this.#circuit.close();
    return verdict === 'accepted' ? 'yes' : verdict === 'retry' ? 'unknown' : 'no';
  }

  async #giveUp(message: Buffer, answer: StoreAnswer): Promise<boolean> {
    const { logger, onDeadLetter } = this.#options;
    this.#setAvailable(true);
    const letter = deadLetterOf(message, answer);
    const { series, sampleCount, status } = letter;
    logger.error({ status, answer: answer.text, series }, 'the store refuses a series: it is a dead letter');
    await onDeadLetter(letter);
    this.#metrics.refusedSeries.inc();
    this.#metrics.refusedSamples.inc(sampleCount);
    return true;
  }

  /** Sends until there is an answer to act on: 2xx, or a fault of the content. Undefined when closing. */
  async #write(body: Buffer, samples: number): Promise<StoreAnswer | undefined> {
    const closing = this.#closing.signal;
    for (let attempt = 0; !closing.aborted; attempt++) {
      const probing = await this.#circuit.pass(closing);
      if (closing.aborted) break;
      const began = this.#options.clock.monotonic();
      const answer = await this.#post(body);
      const verdict = verdictOf(answer.status);
      if (verdict === 'accepted') this.#stored(body, samples, began);
      else if (verdict === 'path') this.#pathFault(answer);
      if (probing) this.#circuit.probed();
      if (verdict === 'accepted' || verdict === 'content') return answer;
      this.#metrics.retries.inc({ status: String(answer.status) });
      if (verdict === 'path') continue;
      this.#concurrency.overloaded();
      this.#setAvailable(false, answer);
      await this.#wait(attempt, answer);
    }
    return undefined;
  }

  async #wait(attempt: number, answer: StoreAnswer): Promise<void> {
    const { clock, random } = this.#options;
    const asked = retryAfterMs(answer.retryAfter, clock.now());
    // What the store itself asked for is waited out.
    const early = asked > 0 ? [] : [this.#back.signal];
    await sleep(retryWait(attempt, asked, random), AbortSignal.any([this.#closing.signal, ...early]));
  }

  #stored(body: Buffer, samples: number, began: number): void {
    const now = this.#options.clock.monotonic();
    this.#lastSuccess = now;
    this.#circuit.close();
    this.#setAvailable(true);
    this.#concurrency.answered(now - began, samples, this.#inFlight.size);
    this.#metrics.samples.inc(samples);
    this.#metrics.bytes.inc(body.length);
    this.#metrics.requests.inc();
  }

  #post(body: Buffer): Promise<StoreAnswer> {
    return this.#endpoint.request({
      method: 'POST',
      path: WRITE_PATH,
      headers: HEADERS,
      body,
      signal: this.#closing.signal,
      maxBytes: MAX_ANSWER_BYTES,
    });
  }

  #pathFault(answer: StoreAnswer): void {
    if (this.#circuit.fault === undefined)
      this.#options.logger.error(
        { status: answer.status, answer: answer.text },
        'the store may not be written to, or is not there: check its URL and credentials; agents keep their samples',
      );
    this.#circuit.open(answer.status);
    this.#setAvailable(false, answer);
  }

  #setAvailable(available: boolean, answer?: StoreAnswer): void {
    if (available === this.#available) return;
    this.#available = available;
    const { logger } = this.#options;
    clearTimeout(this.#awayTimer);
    if (available) {
      logger.info('the store takes samples again');
      this.#deferringAway = false;
      this.#back.abort();
      this.#back = new AbortController();
      // A store that was away may be another incarnation.
      void this.#options.readEpoch();
    } else {
      logger.error(
        { status: answer?.status, answer: answer?.text },
        'the store takes nothing: agents keep their samples, live state and alerts go on',
      );
      this.#awayTimer = setTimeout(() => {
        this.#deferringAway = true;
        this.#deferQueued();
      }, this.#options.awayHoldMs ?? AWAY_HOLD_MS).unref();
    }
    this.#options.onAvailability(available);
  }

  /** What waits behind the requests in flight stays with the agents. */
  #deferQueued(): void {
    this.#waiting.clear(DEFERRED);
    for (const lane of [this.#live, this.#spans]) {
      for (const { batch, done } of lane.queue.splice(0)) {
        lane.heldBytes -= batch.byteLength;
        lane.heldSamples -= batch.samples;
        done.resolve(DEFERRED);
      }
    }
  }
}

/** A request that was refused, and where its series begin. */
interface Refused {
  readonly request: Buffer;
  readonly starts: readonly number[];
  /** Samples of one series, on average. */
  readonly sizeOf: number;
}

function newQueued(batch?: WriteBatch): Queued {
  batch?.clear();
  return { batch: batch ?? new WriteBatch(), done: Promise.withResolvers<WriteOutcome>() };
}

function worse([a, b]: readonly WriteOutcome[]): WriteOutcome {
  return a!.state === 'deferred' ? a! : b!;
}
