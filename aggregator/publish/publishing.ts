import type { Registry } from '#shared/instruments/registry.ts';
import type { Block } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { RejectedTick } from '#shared/model/rejection.ts';
import { type Context, enrichedTick } from './enriched-tick.ts';
import { dictionaryBody, FrameBodies } from './frame-body.ts';
import { Outbox } from './outbox.ts';
import { OutboxMetrics } from './outbox-metrics.ts';
import { rejectedMessage } from './rejected-message.ts';
import type { PublishSettings } from './settings.ts';
import type { Stream, StreamWish } from './stream.ts';
import { type TickPlan, TickPlans } from './tick-plan.ts';

export interface PublishingOptions {
  readonly settings: PublishSettings;
  /** Copies of each stream in a NATS cluster. */
  readonly replicas: number;
  /** The tokens of a subject, escaped, as alerts and events have them. */
  readonly toSubject: (prefix: string, ...parts: readonly string[]) => string;
  /** Joined into enriched ticks. */
  readonly context?: Context;
  readonly clock: Clock;
  readonly registry: Registry;
}

/** What waits in memory for JetStream, at the most: of each stream, in this order of need. */
const REJECTED_BYTES = 8 * 2 ** 20;
const DICTIONARY_BYTES = 16 * 2 ** 20;
const TICK_BYTES = 32 * 2 ** 20;
/**
 * A dictionary in use is given to its stream again this often. Its message lives two hours longer than a tick, so
 * that whoever reads the oldest tick still finds it, and those that nobody uses go.
 */
const REANNOUNCE_MS = 3_600_000;
const DICTIONARY_EXTRA_AGE_MS = 2 * REANNOUNCE_MS;
/** A dictionary that JetStream did not take is offered again after this. */
const REFUSED_AGAIN_MS = 10_000;
/** One of 400 series takes a millisecond (own measurement): a tenth of a core at the most. */
const DICTIONARIES_PER_SECOND = 100;
/** Rejected messages of one node that are kept: one with a broken sensor must not push out the fleet's. */
const REJECTED_PER_NODE = 10_000;

const JSON_TYPE = { 'Content-Type': 'application/json' };
const DICTIONARY_HEADERS = { ...JSON_TYPE, 'Content-Encoding': 'gzip' };

/**
 * Rejected samples, and where it is switched on ticks, for consumers at JetStream. Nothing here waits: what cannot
 * be sent is held in bounded queues, then dropped and counted.
 */
export class Publishing {
  readonly #options: PublishingOptions;
  readonly #metrics: OutboxMetrics;
  readonly #plans: TickPlans;
  readonly #bodies = new FrameBodies();
  readonly #rejected: Outbox | undefined;
  readonly #dictionaries: Outbox | undefined;
  readonly #ticks: Outbox | undefined;
  readonly #enriched: Outbox | undefined;
  #connected = false;
  #session = 0;
  /** Monotonic ms of the second in which so many dictionaries were laid out. */
  #makingSince = Number.NEGATIVE_INFINITY;
  #made = 0;

  constructor(options: PublishingOptions) {
    const { settings, registry, toSubject } = options;
    this.#options = options;
    this.#metrics = new OutboxMetrics(registry);
    this.#plans = new TickPlans(settings.ticks, ({ cluster, node }, group) =>
      toSubject('', cluster, node, group),
    );
    const outbox = (name: string, maxBytes: number): Outbox =>
      new Outbox({ name, maxBytes, metrics: this.#metrics });
    if (settings.rejected) this.#rejected = outbox('rejected', REJECTED_BYTES);
    if (settings.ticks.enabled) {
      this.#dictionaries = outbox('dictionaries', DICTIONARY_BYTES);
      this.#ticks = outbox('ticks', TICK_BYTES);
    }
    if (settings.ticks.enriched) this.#enriched = outbox('enriched', TICK_BYTES);
  }

  /** The streams that have to be there; none where everything is switched off. */
  get streams(): readonly StreamWish[] {
    const { rejected, ticks, max_age, max_bytes } = this.#options.settings;
    const wish = (name: string, maxPerSubject: number, maxAgeMs = max_age): StreamWish => ({
      subjects: `gpufleet.${name}.>`,
      settings: {
        name: `GPUFLEET_${name.toUpperCase()}`,
        replicas: this.#options.replicas,
        maxBytes: max_bytes,
        maxAgeMs,
        maxPerSubject,
      },
    });
    return [
      ...(rejected ? [wish('rejected', REJECTED_PER_NODE)] : []),
      // The newest of a hash is as good as all.
      ...(ticks.enabled
        ? [wish('dictionaries', 1, max_age + DICTIONARY_EXTRA_AGE_MS), wish('ticks', -1)]
        : []),
      ...(ticks.enriched ? [wish('enriched', -1)] : []),
    ];
  }

  /** Bytes in memory that are not yet stored. */
  get waitingBytes(): number {
    return this.#outboxes().reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
  }

  /** The connection is there, and so are the streams. */
  begin(stream: Stream): void {
    this.#session++;
    this.#connected = true;
    for (const outbox of this.#outboxes()) outbox.begin(stream);
  }

  end(): void {
    this.#connected = false;
    for (const outbox of this.#outboxes()) outbox.end();
  }

  /** Sends what waits for at most `ms`, then drops it. */
  async close(ms = 1_000): Promise<void> {
    await Promise.all(this.#outboxes().map((outbox) => outbox.close(ms)));
  }

  rejectedTick(tick: RejectedTick): void {
    if (this.#rejected === undefined) return;
    const { cluster, node } = tick.source;
    this.#rejected.offer({
      subject: this.#options.toSubject('gpufleet.rejected', cluster, node),
      body: rejectedMessage(tick),
      headers: JSON_TYPE,
    });
  }

  /** A block as validation leaves it. Backlog is not published: whoever wants the past asks the store. */
  tick(block: Block): void {
    if (!block.live || (this.#ticks === undefined && this.#enriched === undefined)) return;
    const plan = this.#plans.of(block.dictionary, block.source);
    if (plan === undefined) return;
    if (this.#ticks !== undefined) this.#frame(plan, block, this.#ticks);
    if (this.#enriched !== undefined) this.#json(plan, block, this.#enriched);
  }

  #frame(plan: TickPlan, block: Block, ticks: Outbox): void {
    this.#unlessUnencodable('ticks', () => {
      const body = this.#bodies.encode(plan, block);
      this.#announce(plan);
      const headers = { 'Gpufleet-Dictionary': plan.hash };
      ticks.offer({ subject: `gpufleet.ticks${plan.subject}`, body, headers });
    });
  }

  #json(plan: TickPlan, block: Block, enriched: Outbox): void {
    this.#unlessUnencodable('enriched', () => {
      const subject = `gpufleet.enriched${plan.subject}`;
      for (const body of enrichedTick(plan, block, this.#options.context ?? noContext))
        enriched.offer({ subject, body, headers: JSON_TYPE });
    });
  }

  /** What cannot be published must not end the stream that brought it. */
  #unlessUnencodable(stream: string, publish: () => void): void {
    try {
      publish();
    } catch {
      this.#metrics.dropped.inc({ stream, reason: 'unencodable' });
    }
  }

  /**
   * A dictionary goes out before its first tick, again from time to time, and anew with each connection: it may be
   * another server, or one that has lost its disk.
   */
  #announce(plan: TickPlan): void {
    const now = this.#options.clock.monotonic();
    if (!this.#connected || (plan.session === this.#session && now < plan.announceAt)) return;
    if (plan.dictionaryBody === undefined && !this.#mayMake(now)) return;
    plan.dictionaryBody ??= dictionaryBody(plan);
    plan.session = this.#session;
    plan.announceAt = now + REANNOUNCE_MS;
    this.#dictionaries?.offer({
      subject: `gpufleet.dictionaries.${plan.hash}`,
      body: plan.dictionaryBody,
      headers: DICTIONARY_HEADERS,
      onDropped: () => {
        plan.announceAt = this.#options.clock.monotonic() + REFUSED_AGAIN_MS;
      },
    });
  }

  /** A fleet that connects at once brings thousands of dictionaries: they must not stall its ticks. */
  #mayMake(now: number): boolean {
    if (now - this.#makingSince >= 1_000) {
      this.#makingSince = now;
      this.#made = 0;
    }
    return this.#made++ < DICTIONARIES_PER_SECOND;
  }

  #outboxes(): Outbox[] {
    return [this.#rejected, this.#dictionaries, this.#ticks, this.#enriched].filter(
      (outbox) => outbox !== undefined,
    );
  }
}

const noContext: Context = () => undefined;
