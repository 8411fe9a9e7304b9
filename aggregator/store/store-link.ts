import { FleetError } from '#shared/errors/fleet-error.ts';
import { gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import { verdictOf } from './answer-policy.ts';
import { Canary, type CanaryOptions, type ReplayNeed } from './canary.ts';
import type { DeadLetter } from './dead-letter.ts';
import { IgnoredRows, type StoreLoss } from './ignored-rows.ts';
import { RemoteWriter, type WriteOutcome } from './remote-writer.ts';
import { MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS } from './series-template.ts';
import type { StoreAccess } from './store-access.ts';
import { StoreEndpoint } from './store-endpoint.ts';
import { MAX_AHEAD_MS, type StoreFacts, StoreWatch } from './store-watch.ts';

export interface StoreLinkStatus {
  /** Identity of the store's incarnation; 0 where unknown. */
  readonly epoch: bigint;
  /** How long ago it was read, by a reading that counts (`provenAt`); infinite before the first. */
  readonly epochAgeMs: number;
  readonly backfillOpen: boolean;
  /** What people should know about the store; empty where all is well. */
  readonly notes: readonly string[];
}

/** Where samples go for good; also what admission must know about it. */
export interface StoreLink extends AsyncDisposable {
  readonly status: StoreLinkStatus;
  /** Whether it takes samples; `off` where there is none. */
  readonly state: 'ok' | 'away' | 'off';
  /** Timestamps that it would keep, Unix ms: a 2xx is no promise for others. */
  readonly timeBounds: { readonly minMs: number; readonly maxMs: number };
  /** Reads the block during the call; resolves when the store has answered. Never rejects. */
  write(block: Block): Promise<WriteOutcome>;
  /** The same for backlog: live blocks go first. */
  writeSpan(span: BlockSpan): Promise<WriteOutcome>;
  /** Offers the body of a dead letter once more; refused is a sentence. Throws `unavailable` without an answer. */
  replayDeadLetter(body: Buffer): Promise<'accepted' | { readonly refused: string }>;
  run(signal: AbortSignal): Promise<void>;
}

/** Samples near the end of the retention are refused rather than ignored by a store whose clock runs ahead. */
const RETENTION_MARGIN_MS = 60_000;

export interface VictoriaMetricsOptions {
  /** Base URL for writing; of a cluster `http://vminsert:8480/insert/<tenant>/prometheus`. */
  readonly url: string;
  /** Base URL for reading the canary back; `url` where not given, and nothing for a cluster. */
  readonly readUrl?: string | undefined;
  /** Every process whose memory samples pass through, for its /metrics; `url` where not given. */
  readonly processes?: readonly string[] | undefined;
  readonly access?: StoreAccess | undefined;
  /** Name of this aggregator: label of its canary. */
  readonly shard: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  /** The incarnation or the availability changed: agents should hear of it now. */
  readonly onChange: () => void;
  /** A series that the store refuses alone, for good. Awaited before its samples count as settled. */
  readonly onDeadLetter: (letter: DeadLetter) => Promise<void> | void;
  /** Samples that the store took and dropped. A dead letter is not told here too. */
  readonly onLoss: (loss: StoreLoss) => Promise<void> | void;
  /** What the process before this one knew of its canary, and where to keep that for the next. */
  readonly canary?: Pick<CanaryOptions, 'remembered' | 'remember'> | undefined;
  /** The store has forgotten what it accepted since then. Called once for each time; again where it throws. */
  readonly onReplay: (need: ReplayNeed) => Promise<void> | void;
  /** How often the store's metrics are read and the canary is written, ms; 5 s by default. */
  readonly pollEveryMs?: number;
}

/** Of a cluster the URL for writing knows nothing about the processes behind it. */
const CLUSTER_PATH = /\/insert\/[^/]+/;
/** Where samples can be read; undefined for a cluster that says nowhere. */
export function readUrlOf(url: string, readUrl: string | undefined): string | undefined {
  return readUrl ?? (CLUSTER_PATH.test(new URL(url).pathname) ? undefined : url);
}

const READ_TIMEOUT_MS = 30_000;
const POLL_EVERY_MS = 5_000;

/** VictoriaMetrics, watched and written. */
export class VictoriaMetricsLink implements StoreLink {
  readonly #options: VictoriaMetricsOptions;
  readonly #watch: StoreWatch;
  readonly #writer: RemoteWriter;
  readonly #ignored: IgnoredRows;
  readonly #reader: StoreEndpoint | undefined;
  readonly #canary: Canary | undefined;
  #secret = 0;

  constructor(options: VictoriaMetricsOptions) {
    this.#options = options;
    const { url, clock, random, logger, registry, access, shard } = options;
    const cluster = CLUSTER_PATH.test(new URL(url).pathname);
    this.#watch = new StoreWatch({
      processes: options.processes ?? (cluster ? [] : [url]),
      host: new URL(url).host,
      access,
      clock,
      logger,
      onChange: (facts, before) => this.#learned(facts, before),
      onBack: () => this.#writer.wake(),
      everyMs: options.pollEveryMs ?? POLL_EVERY_MS,
    });
    this.#writer = new RemoteWriter({
      url,
      access,
      shard,
      clock,
      random,
      logger,
      registry,
      epoch: () => this.#watch.facts?.epoch,
      readEpoch: () => this.#watch.read(),
      onAvailability: (available) => this.#availability(available),
      onDeadLetter: options.onDeadLetter,
    });
    this.#ignored = new IgnoredRows({ clock, onLoss: options.onLoss, logger, registry });
    const readUrl = readUrlOf(url, options.readUrl);
    if (readUrl !== undefined) {
      this.#reader = new StoreEndpoint({
        url: readUrl,
        connections: 1,
        timeoutMs: READ_TIMEOUT_MS,
        access,
        otherHost: new URL(readUrl).host !== new URL(url).host,
      });
      this.#canary = new Canary({
        shard,
        clock,
        post: (request) => this.#writer.post(request),
        reader: this.#reader,
        readEpoch: async () => (await this.#watch.read())?.epoch,
        everyMs: options.pollEveryMs ?? POLL_EVERY_MS,
        available: () => this.#writer.available,
        remembered: options.canary?.remembered,
        remember: options.canary?.remember ?? (() => {}),
        onReplay: options.onReplay,
        logger,
        registry,
      });
    }
    this.#gauges(registry);
  }

  get state(): 'ok' | 'away' {
    return this.#writer.available ? 'ok' : 'away';
  }

  get status(): StoreLinkStatus {
    const facts = this.#watch.facts;
    const notes: string[] = [];
    if (!this.#writer.available) notes.push('the store takes nothing: samples stay on the nodes');
    if (facts?.deduplicates === false)
      notes.push('at-least-once: the store runs without -dedup.minScrapeInterval=1ms');
    if (facts?.epoch === 0n)
      notes.push(
        'degraded: the store does not say when it started, samples count as durable after 10 minutes',
      );
    if (this.#writer.pathFault !== undefined)
      notes.push(`the store answers ${this.#writer.pathFault}: check its URL and credentials`);
    if (this.#canary?.unreadable)
      notes.push('the store cannot be read: that it was restored from a backup would not be noticed');
    return {
      epoch: facts?.epoch ?? 0n,
      epochAgeMs: facts ? this.#options.clock.monotonic() - facts.provenAt : 0,
      backfillOpen: this.#writer.backfillOpen,
      notes,
    };
  }

  get timeBounds(): { minMs: number; maxMs: number } {
    const now = this.#options.clock.now();
    const retentionMs = this.#watch.facts?.retentionMs;
    const oldest = retentionMs === undefined ? MIN_TIMESTAMP_MS : now - retentionMs + RETENTION_MARGIN_MS;
    return {
      minMs: Math.max(MIN_TIMESTAMP_MS, oldest),
      maxMs: Math.min(MAX_TIMESTAMP_MS, now + MAX_AHEAD_MS - RETENTION_MARGIN_MS),
    };
  }

  write(block: Block): Promise<WriteOutcome> {
    return this.#writer.offer(block);
  }

  writeSpan(span: BlockSpan): Promise<WriteOutcome> {
    return this.#writer.offerSpan(span);
  }

  async replayDeadLetter(body: Buffer): Promise<'accepted' | { readonly refused: string }> {
    const { status, text } = await this.#writer.post(body);
    const words = `${status === 0 ? 'no answer' : status} ${text}`.trim();
    const verdict = verdictOf(status);
    if (verdict === 'accepted') return 'accepted';
    if (verdict === 'content') return { refused: words };
    throw new FleetError('unavailable', `Cannot offer the series to the store: ${words}`);
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#watch.run(signal), this.#canary?.run(signal)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
    await this.#watch[Symbol.asyncDispose]();
    await this.#reader?.[Symbol.asyncDispose]();
  }

  #gauges(registry: Registry): void {
    const facts = (): StoreFacts | undefined => this.#watch.facts;
    gauge(registry, {
      name: 'gpufleet_store_at_least_once',
      help: '1 while the store does not deduplicate: repeats are stored twice. Set -dedup.minScrapeInterval=1ms.',
      collect() {
        this.set(facts()?.deduplicates === false ? 1 : 0);
      },
    });
    const age = (): number => {
      const read = facts();
      return read ? (this.#options.clock.monotonic() - read.readAt) / 1000 : 0;
    };
    gauge(registry, {
      name: 'gpufleet_store_epoch_age_seconds',
      help: 'How long ago every process of the store last said when it started; 0 before the first time.',
      collect() {
        this.set(age());
      },
    });
  }

  #availability(available: boolean): void {
    // Coming back is a sign that it may be another one, and the only one where it does not say when it started.
    if (available) this.#canary?.recheck();
    this.#options.onChange();
  }

  #learned(facts: StoreFacts, before: StoreFacts | undefined): void {
    const { logger, onChange, access } = this.#options;
    void this.#ignored.observe(facts);
    const rotations = access?.rotations ?? 0;
    if (rotations !== this.#secret) this.#writer.wake();
    this.#secret = rotations;
    if (before?.epoch === facts.epoch && before.deduplicates === facts.deduplicates) return;
    if (before && before.epoch !== facts.epoch)
      logger.warn('the store restarted: agents send again what it may have lost');
    if (!facts.deduplicates)
      logger.warn('the store does not deduplicate: run it with -dedup.minScrapeInterval=1ms');
    onChange();
  }
}

/** Without a store: live state, health and alerts work, history does not. Accepted is all there is. */
export class NoStore implements StoreLink {
  readonly state = 'off';
  readonly #epoch: bigint;
  readonly #clock: Clock;

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#epoch = BigInt(Math.floor(random() * Number.MAX_SAFE_INTEGER)) + 1n;
  }

  get status(): StoreLinkStatus {
    return {
      epoch: this.#epoch,
      epochAgeMs: 0,
      backfillOpen: true,
      notes: ['embedded: there is no store, so no history'],
    };
  }

  get timeBounds(): { minMs: number; maxMs: number } {
    return { minMs: MIN_TIMESTAMP_MS, maxMs: this.#clock.now() + MAX_AHEAD_MS };
  }

  write(): Promise<WriteOutcome> {
    return Promise.resolve({ state: 'accepted', epoch: this.#epoch });
  }

  writeSpan(): Promise<WriteOutcome> {
    return this.write();
  }

  replayDeadLetter(): Promise<{ readonly refused: string }> {
    return Promise.resolve({ refused: 'embedded: there is no store' });
  }

  async run(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
