import { gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import { RemoteWriter, type WriteOutcome } from './remote-writer.ts';
import { MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS } from './series-template.ts';
import { MAX_AHEAD_MS, type StoreFacts, StoreWatch } from './store-watch.ts';

export interface StoreLinkStatus {
  /** Identity of the store's incarnation; 0 where unknown. */
  readonly epoch: bigint;
  /** How long ago it was read. */
  readonly epochAgeMs: number;
  readonly backfillOpen: boolean;
  /** What people should know about the store; empty where all is well. */
  readonly notes: readonly string[];
}

/** Where samples go for good; also what admission must know about it. */
export interface StoreLink extends AsyncDisposable {
  readonly status: StoreLinkStatus;
  /** Timestamps that it would keep, Unix ms: a 2xx is no promise for others. */
  readonly timeBounds: { readonly minMs: number; readonly maxMs: number };
  /** Reads the block during the call; resolves when the store has answered. Never rejects. */
  write(block: Block): Promise<WriteOutcome>;
  run(signal: AbortSignal): Promise<void>;
}

/** Samples near the end of the retention are refused rather than ignored by a store whose clock runs ahead. */
const RETENTION_MARGIN_MS = 60_000;

export interface VictoriaMetricsOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  /** The incarnation or the availability changed: agents should hear of it now. */
  readonly onChange: () => void;
}

/** VictoriaMetrics, watched and written. */
export class VictoriaMetricsLink implements StoreLink {
  readonly #options: VictoriaMetricsOptions;
  readonly #watch: StoreWatch;
  readonly #writer: RemoteWriter;

  constructor(options: VictoriaMetricsOptions) {
    this.#options = options;
    const { url, clock, random, logger, registry, onChange } = options;
    this.#watch = new StoreWatch({
      url,
      clock,
      logger,
      onChange: (facts, before) => this.#learned(facts, before),
    });
    this.#writer = new RemoteWriter({
      url,
      clock,
      random,
      logger,
      registry,
      epoch: () => this.#watch.facts?.epoch,
      readEpoch: () => this.#watch.read(),
      onAvailability: onChange,
    });
    const facts = (): StoreFacts | undefined => this.#watch.facts;
    gauge(registry, {
      name: 'gpufleet_store_at_least_once',
      help: '1 while the store does not deduplicate: repeats are stored twice. Set -dedup.minScrapeInterval=1ms.',
      collect() {
        this.set(facts()?.deduplicates === false ? 1 : 0);
      },
    });
    gauge(registry, {
      name: 'gpufleet_store_ignored_rows',
      help: 'Rows that the store answered 2xx for and dropped, since it started.',
      collect() {
        this.set(facts()?.ignoredRows ?? 0);
      },
    });
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
    return {
      epoch: facts?.epoch ?? 0n,
      epochAgeMs: facts ? this.#options.clock.monotonic() - facts.readAt : 0,
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

  run(signal: AbortSignal): Promise<void> {
    return this.#watch.run(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
    await this.#watch[Symbol.asyncDispose]();
  }

  #learned(facts: StoreFacts, before: StoreFacts | undefined): void {
    const { logger, onChange } = this.#options;
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

  async run(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
