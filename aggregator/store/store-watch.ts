import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { StoreAccess } from './store-access.ts';
import { StoreEndpoint } from './store-endpoint.ts';
import { epochOf, type ProcessMetrics, parseStoreMetrics, restartedWithin } from './store-metrics.ts';

export interface StoreFacts {
  /** Identity of the store's incarnation; 0 where it cannot be known. */
  readonly epoch: bigint;
  /** When the epoch was read, monotonic ms: before the request was sent. */
  readonly readAt: number;
  /**
   * The newest reading, monotonic ms, before which the store was seen at work for 30 s without a pause: only that
   * long does it need to bring to disk what it accepted, and a store that is stopped brings nothing anywhere.
   */
  readonly provenAt: number;
  /** Repeated samples are made one (`-dedup.minScrapeInterval`). */
  readonly deduplicates: boolean;
  /** How far back samples are kept, ms; undefined where unknown. */
  readonly retentionMs: number | undefined;
  /** Rows that the store answered 2xx for and dropped, since it started, by reason. */
  readonly ignored: ReadonlyMap<string, number>;
}

/** Two readings further apart than this may have a pause of the store between them. */
const PAUSE_MS = 12_000;
/** As long as the agents wait: VictoriaMetrics lost up to 10 s (measured). */
const AT_WORK_MS = 30_000;

/** VictoriaMetrics drops samples further ahead than this, with a 204 (measured on 1.79). */
export const MAX_AHEAD_MS = 2 * 86_400_000;

const POLL_TIMEOUT_MS = 5_000;
/** /metrics of a VictoriaMetrics is about 100 KB. */
const MAX_METRICS_BYTES = 16 * 2 ** 20;

export interface StoreWatchOptions {
  /** Every process whose memory samples pass through: the one of a single store, all of a cluster. */
  readonly processes: readonly string[];
  /** Host of the store's own URL: the configured server name of TLS is its alone. */
  readonly host: string;
  readonly access: StoreAccess | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onChange: (facts: StoreFacts, before: StoreFacts | undefined) => void;
  /** It answers, and did not before. */
  readonly onBack: () => void;
  readonly everyMs: number;
}

interface Watched {
  readonly url: string;
  readonly endpoint: StoreEndpoint;
  readonly path: string;
  known: ProcessMetrics | undefined;
  /** Restarts that the start time alone did not show. */
  hiddenRestarts: number;
}

const NOTHING_KNOWN = { deduplicates: false, retentionMs: undefined, ignored: new Map<string, number>() };

/**
 * Reads the store's own /metrics: its incarnation, whether it deduplicates, how long it keeps samples, and what
 * it ignored. A 2xx of the store proves nothing of all that.
 *
 * The incarnation is a hash over the start times of all its processes. Where one of them cannot be read, what was
 * known stays and grows older: samples are not durable meanwhile, and nothing is sent again for nothing. A start
 * time counts whole seconds; a process that died within the second of its start is known by counters that fell.
 * What is left is one that was never seen, or that had counted less than its successor when it was: both within a
 * second.
 */
export class StoreWatch implements AsyncDisposable {
  readonly #options: StoreWatchOptions;
  readonly #processes: readonly Watched[];
  #facts: StoreFacts | undefined;
  #reading: Promise<StoreFacts | undefined> | undefined;
  #answers = true;
  #atWorkSince = 0;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
    this.#processes = options.processes.map((url) => watched(url, options));
  }

  /** What is known; undefined until the store has answered once. */
  get facts(): StoreFacts | undefined {
    return this.#facts;
  }

  async run(signal: AbortSignal): Promise<void> {
    void this.read();
    await repeat(this.#options.everyMs, signal, () => void this.read());
  }

  /** Reads now, or joins the read under way. Undefined where not all of the store answers. */
  async read(): Promise<StoreFacts | undefined> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reading?.catch(() => {});
    await Promise.all(this.#processes.map(({ endpoint }) => endpoint[Symbol.asyncDispose]()));
  }

  async #read(): Promise<StoreFacts | undefined> {
    const readAt = this.#options.clock.monotonic();
    if (this.#processes.length === 0) return this.#set({ epoch: 0n, readAt, ...NOTHING_KNOWN });
    const pages = await Promise.all(this.#processes.map((process) => this.#page(process)));
    const answers = pages.every((page) => page !== undefined);
    if (answers && !this.#answers) this.#options.onBack();
    this.#answers = answers;
    return answers ? this.#learn(pages, readAt) : undefined;
  }

  /** Undefined where it does not answer; nothing but empty where it has no such page. */
  async #page({ endpoint, path, url }: Watched): Promise<ProcessMetrics | undefined> {
    const answer = await endpoint.request({ method: 'GET', path, maxBytes: MAX_METRICS_BYTES });
    if (answer.status === 200) return parseStoreMetrics(answer.text);
    if (answer.status === 404) return parseStoreMetrics('');
    this.#options.logger.debug(
      { url, status: answer.status, cause: answer.text },
      'cannot read the metrics of the store',
    );
    return undefined;
  }

  #learn(pages: readonly ProcessMetrics[], readAt: number): StoreFacts | undefined {
    const starts = pages.map(({ started }) => started);
    const known = this.#facts !== undefined && this.#facts.epoch !== 0n;
    const complete = starts.every((started) => started !== undefined);
    // Whoever has said when it started and does not any more has an answer of somebody else's in front of it.
    if (!complete && known) return undefined;
    this.#processes.forEach((process, i) => {
      const page = pages[i]!;
      if (process.known && restartedWithin(process.known, page)) process.hiddenRestarts++;
      process.known = page;
    });
    const identities = this.#processes.map(
      ({ hiddenRestarts }, i) => `${starts[i]}${hiddenRestarts > 0 ? `+${hiddenRestarts}` : ''}`,
    );
    const dedup = pages.flatMap(({ deduplicates }) => deduplicates ?? []);
    const retentions = pages.flatMap(({ retentionMs }) => retentionMs ?? []);
    return this.#set({
      epoch: complete ? epochOf(identities) : 0n,
      readAt,
      deduplicates: dedup.length > 0 && dedup.every(Boolean),
      retentionMs: retentions.length > 0 ? Math.min(...retentions) : undefined,
      ignored: sumOf(pages),
    });
  }

  #set(read: Omit<StoreFacts, 'provenAt'>): StoreFacts {
    const before = this.#facts;
    const { readAt, epoch } = read;
    if (!before || readAt - before.readAt > PAUSE_MS) this.#atWorkSince = readAt;
    const proven = epoch === 0n || readAt - this.#atWorkSince >= AT_WORK_MS;
    const facts = { ...read, provenAt: proven ? readAt : (before?.provenAt ?? Number.NEGATIVE_INFINITY) };
    this.#facts = facts;
    this.#options.onChange(facts, before);
    return facts;
  }
}

/** `/metrics` is added, unless the URL has it already (with a key behind it, for example). */
function watched(url: string, { host, access }: StoreWatchOptions): Watched {
  const { pathname, search, origin, host: own } = new URL(url);
  const base = pathname.replace(/\/metrics$/, '');
  const endpoint = new StoreEndpoint({
    url: `${origin}${base}`,
    connections: 1,
    timeoutMs: POLL_TIMEOUT_MS,
    access,
    otherHost: own !== host,
  });
  return { url, endpoint, path: `/metrics${search}`, known: undefined, hiddenRestarts: 0 };
}

function sumOf(pages: readonly ProcessMetrics[]): Map<string, number> {
  const sum = new Map<string, number>();
  for (const { ignored } of pages)
    for (const [reason, rows] of ignored) sum.set(reason, (sum.get(reason) ?? 0) + rows);
  return sum;
}
