import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { NatsLink, type NatsSession } from '../bus/nats-link.ts';
import { BucketView } from './bucket-view.ts';
import {
  type BucketChange,
  type BucketTip,
  type BucketWatch,
  ControlBucket,
  toChange,
} from './control-bucket.ts';
import { ControlMirror } from './control-mirror.ts';
import type { ControlChange, ControlEntry, ControlState, ControlStore } from './control-store.ts';
import { bytesOf, checkDocument, checkKey } from './document.ts';
import { DocumentTable } from './document-table.ts';
import { encodeDocument, toKvKey } from './kv-key.ts';
import type { SharedControlOptions } from './open-control-store.ts';

/** Writes that NATS has not answered yet; each is a caller's, and callers wait for theirs. */
const MAX_IN_FLIGHT = 4_096;
/** 20,000 documents take a second or two; see the test. */
const SNAPSHOT_TIMEOUT_MS = 30_000;
const CHECK_INTERVAL_MS = 5_000;
const RETRY_MS = 500;
/** A bucket this young is filled with what is known of the one before. Own judgement. */
const PLANT_WITHIN_MS = 30 * 60_000;
const PLANTS_AT_ONCE = 64;
/** Marks of deletions stay for longer than that, so that nobody plants what was deleted since. */
const KEEP_MARKS_MS = 60 * 60_000;
const MARKS_PER_CHECK = 200;

/** The documents of all aggregators, in a NATS KV bucket; in memory here, and mirrored to disk. */
export class SharedControl implements ControlStore {
  readonly #options: SharedControlOptions;
  readonly #table: DocumentTable;
  readonly #mirror: ControlMirror;
  readonly #view: BucketView;
  readonly #stop = new AbortController();
  readonly #run: Promise<void>;
  readonly #checkTimer: NodeJS.Timeout;
  #state: ControlState = 'away';
  #session: NatsSession | undefined;
  #bucket: ControlBucket | undefined;
  #watch: BucketWatch | undefined;
  /** The watch that ended by itself. */
  #ended: BucketWatch | undefined;
  #seenAtCheck = -1;
  #checking: Promise<void> | undefined;
  #inFlight = 0;

  private constructor(options: SharedControlOptions, table: DocumentTable, mirror: ControlMirror) {
    const { nats, logger, random } = options;
    this.#options = options;
    this.#table = table;
    this.#mirror = mirror;
    this.#view = new BucketView({ ...options, table, mirror });
    this.#checkTimer = setInterval(() => this.#startCheck(), CHECK_INTERVAL_MS).unref();
    this.#run = new NatsLink({ ...nats, logger, random: random ?? Math.random }).run(
      this.#stop.signal,
      (session) => this.#begin(session),
      () => this.#end(),
    );
  }

  /** Resolves once it is in step with the others, or after `waitMs` with what the mirror knows. */
  static async open(options: SharedControlOptions): Promise<SharedControl> {
    const { mirror, documents } = await ControlMirror.open(options.local, options.logger);
    const table = new DocumentTable();
    for (const { key, value, revision } of documents) table.set(key, value, revision, bytesOf(value));
    const store = new SharedControl(options, table, mirror);
    await store.#sharedWithin(options.waitMs ?? 2_000);
    return store;
  }

  get state(): ControlState {
    return this.#state;
  }

  get(key: string): ControlEntry | undefined {
    return this.#table.get(key);
  }

  entries(prefix: string): readonly ControlEntry[] {
    return this.#table.entries(prefix);
  }

  async put(key: string, value: unknown, expected: number): Promise<number | undefined> {
    const { bytes } = checkDocument(key, value);
    return this.#write(key, async (bucket) => {
      // Somebody else's write is known already.
      if ((this.#table.get(key)?.revision ?? 0) > expected) return undefined;
      this.#table.checkRoom(key, bytes);
      const kvKey = toKvKey(key);
      const body = encodeDocument(key, value);
      const written =
        expected === 0
          ? await bucket.create(kvKey, body, this.#view.goneAt(kvKey))
          : await bucket.update(kvKey, body, expected);
      const at = 'revision' in written ? written.revision : (written.lostTo ?? 0);
      await this.#view.until(() => this.#view.seen >= at);
      return 'revision' in written ? written.revision : undefined;
    });
  }

  async delete(key: string, expected: number): Promise<boolean> {
    checkKey(key);
    return this.#write(key, async (bucket) => {
      const known = this.#table.get(key)?.revision ?? 0;
      if (expected === 0) return known === 0;
      if (known !== expected) return false;
      const written = await bucket.delete(toKvKey(key), expected);
      await this.#view.until(() => this.#table.get(key)?.revision !== expected);
      return 'revision' in written;
    });
  }

  watch(prefix: string, listener: (change: ControlChange) => void): Disposable {
    return this.#table.watch(prefix, listener);
  }

  onState(listener: (state: ControlState) => void): Disposable {
    return this.#table.onState(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#checkTimer);
    this.#stop.abort();
    await this.#run;
    await this.#checking;
    await this.#mirror.settled();
  }

  async #write<T>(key: string, write: (bucket: ControlBucket) => Promise<T>): Promise<T> {
    const bucket = this.#bucket;
    if (bucket === undefined || this.#state !== 'shared')
      throw new FleetError('unavailable', `Cannot write document ${key}: NATS is away`);
    if (this.#inFlight >= MAX_IN_FLIGHT)
      throw new FleetError('resource_exhausted', `Cannot write document ${key}: too many writes wait`);
    this.#inFlight++;
    try {
      return await write(bucket);
    } catch (thrown) {
      // The bucket itself may be gone.
      if (thrown instanceof FleetError && thrown.code === 'unavailable') this.#startCheck();
      throw thrown;
    } finally {
      this.#inFlight--;
    }
  }

  async #begin(session: NatsSession): Promise<void> {
    this.#session = session;
    await this.#follow(session);
    for (const rider of this.#options.riders ?? []) {
      await rider.begin(session).catch((thrown: unknown) => {
        this.#options.logger.error({ why: describeError(thrown) }, 'cannot use NATS for what rides along');
      });
    }
  }

  #end(): void {
    this.#session = undefined;
    this.#unfollow();
    for (const rider of this.#options.riders ?? []) rider.end();
  }

  /** Opens the bucket, takes what is in it, and goes on with what changes. */
  async #follow(session: NatsSession): Promise<void> {
    const bucket = await ControlBucket.open(session, this.#options.replicas ?? 1);
    await this.#plant(bucket);
    const tip = await bucket.tip();
    if (tip === undefined) throw new FleetError('unavailable', 'Cannot read the control bucket: it is gone');
    const watch = await bucket.watch();
    if (this.#session !== session) return watch.stop();
    this.#watch = watch;
    this.#view.restart();
    const ready = Promise.withResolvers<void>();
    const timer = setTimeout(() => watch.stop(), SNAPSHOT_TIMEOUT_MS);
    void this.#consume(bucket, watch, tip, ready);
    try {
      await ready.promise;
    } finally {
      clearTimeout(timer);
    }
    if (this.#watch !== watch) return;
    this.#bucket = bucket;
    this.#seenAtCheck = -1;
    this.#become('shared');
  }

  #unfollow(): void {
    this.#bucket = undefined;
    const watch = this.#watch;
    this.#watch = undefined;
    watch?.stop();
    this.#become('away');
    this.#view.release();
  }

  async #consume(
    bucket: ControlBucket,
    watch: BucketWatch,
    tip: BucketTip,
    ready: PromiseWithResolvers<void>,
  ): Promise<void> {
    let snapshot: Map<string, BucketChange> | undefined = new Map();
    const adopt = (changes: Map<string, BucketChange>): void => {
      snapshot = undefined;
      this.#view.adopt(bucket.created, tip.revision, changes);
      ready.resolve();
    };
    try {
      if (tip.empty) adopt(snapshot);
      for await (const entry of watch) {
        if (this.#watch !== watch) break;
        const change = toChange(entry);
        if (snapshot === undefined) {
          this.#view.apply(change);
          continue;
        }
        snapshot.set(change.kvKey, change);
        if (entry.delta === 0) adopt(snapshot);
      }
    } catch (thrown) {
      this.#options.logger.warn({ why: describeError(thrown) }, 'the watch of the control bucket ended');
    }
    ready.reject(
      new FleetError('unavailable', 'Cannot read the control bucket: the watch ended or took too long'),
    );
    if (this.#watch !== watch) return;
    this.#ended = watch;
    this.#startCheck();
  }

  /**
   * A server that lost its disk comes back with an empty bucket, and with it silences and shares would be gone. Who
   * knows the bucket before it puts its documents into the new one; what is there already, or was deleted there, wins.
   */
  async #plant(bucket: ControlBucket): Promise<void> {
    const age = this.#options.clock.now() - Date.parse(bucket.created);
    if (bucket.created === this.#mirror.bucket || age > PLANT_WITHIN_MS) return;
    const documents = [...this.#table.all()];
    for (let i = 0; i < documents.length; i += PLANTS_AT_ONCE) {
      const some = documents.slice(i, i + PLANTS_AT_ONCE);
      await Promise.all(some.map(({ key, value }) => bucket.plant(toKvKey(key), encodeDocument(key, value))));
    }
    if (documents.length > 0)
      this.#options.logger.warn(
        { documents: documents.length },
        'the control bucket is new: put there what was known of the one before',
      );
  }

  #become(state: ControlState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#table.tellState(state);
  }

  #startCheck(): void {
    this.#checking ??= this.#check()
      .catch((thrown: unknown) => {
        this.#options.logger.warn({ why: describeError(thrown) }, 'cannot check the control bucket');
      })
      .finally(() => {
        this.#checking = undefined;
      });
  }

  /** Finds out that the bucket was deleted, or that the watch has fallen silent, and starts anew. */
  async #check(): Promise<void> {
    const session = this.#session;
    const bucket = this.#bucket;
    if (session === undefined || bucket === undefined) return;
    // No answer is a loss too: of a peer that vanished without a word the connection itself knows after 20 to 30 s.
    const tip = await bucket.tip().catch(() => undefined);
    if (this.#bucket !== bucket) return;
    const { seen } = this.#view;
    const silent = tip !== undefined && tip.revision > seen && seen === this.#seenAtCheck;
    const stuck = silent || this.#ended === this.#watch;
    this.#seenAtCheck = seen;
    if (tip !== undefined && !stuck) return this.#forgetMarks(bucket);
    this.#options.logger.warn(
      { stuck },
      'the control bucket is gone, silent or does not answer: reading it anew',
    );
    this.#unfollow();
    while (this.#session === session) {
      try {
        return await this.#follow(session);
      } catch (thrown) {
        this.#options.logger.warn({ why: describeError(thrown) }, 'cannot read the control bucket');
        await sleep(RETRY_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
      }
    }
  }

  async #forgetMarks(bucket: ControlBucket): Promise<void> {
    const beforeMs = this.#options.clock.now() - KEEP_MARKS_MS;
    for (const { kvKey, revision } of this.#view.takeMarks(beforeMs, MARKS_PER_CHECK))
      await bucket.forget(kvKey, revision);
  }

  async #sharedWithin(ms: number): Promise<void> {
    if (this.#state === 'shared' || ms <= 0) return;
    const over = new AbortController();
    using _ = this.onState(() => over.abort());
    await sleep(ms, undefined, { signal: over.signal }).catch(() => {});
  }
}
