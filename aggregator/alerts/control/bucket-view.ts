import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { BucketChange } from './control-bucket.ts';
import type { ControlMirror } from './control-mirror.ts';
import type { DocumentTable } from './document-table.ts';
import { decodeDocument } from './kv-key.ts';

/** A key of the bucket without a document of ours: the mark of a deletion, or what somebody else wrote. */
export interface Gone {
  readonly kvKey: string;
  readonly revision: number;
  readonly atMs: number;
  readonly deleted: boolean;
}

interface BucketViewOptions {
  readonly table: DocumentTable;
  readonly mirror: ControlMirror;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** Keys without documents that are remembered; of others the server is asked. */
const MAX_GONE = 100_000;

/**
 * What one watch of the bucket has shown so far, turned into documents. All that is known comes through here, our
 * own writes too, so that each change is told once and in its order.
 */
export class BucketView {
  readonly #options: BucketViewOptions;
  readonly #foreign: Counter;
  /** The document of each key of the bucket that has one. */
  readonly #keys = new Map<string, string>();
  readonly #gone = new Map<string, Gone>();
  readonly #waiters = new Set<{ readonly done: () => boolean; readonly resolve: () => void }>();
  /** Up to which revision the bucket is known. */
  #seen = 0;

  constructor(options: BucketViewOptions) {
    this.#options = options;
    this.#foreign = counter(options.registry, {
      name: 'gpufleet_control_foreign_documents_total',
      help: 'Entries of the control bucket that are no documents of gpufleet or did not fit: they are left out.',
    });
  }

  get seen(): number {
    return this.#seen;
  }

  /** The revision of a key that has no document; 0 where nothing is known of it. */
  goneAt(kvKey: string): number {
    return this.#gone.get(kvKey)?.revision ?? 0;
  }

  /** Marks of deletions that were seen before `beforeMs`, the oldest first; they are forgotten here. */
  takeMarks(beforeMs: number, limit: number): Gone[] {
    const marks: Gone[] = [];
    for (const gone of this.#gone.values()) {
      if (marks.length >= limit || gone.atMs >= beforeMs) break;
      if (gone.deleted) marks.push(gone);
    }
    for (const { kvKey } of marks) this.#gone.delete(kvKey);
    return marks;
  }

  /**
   * Takes the last change of every key of a bucket as what is. What is not among them was deleted meanwhile; what is
   * as it was is not told again, unless it is another bucket than before.
   */
  adopt(bucket: string, lastRevision: number, snapshot: ReadonlyMap<string, BucketChange>): void {
    const { table, mirror } = this.#options;
    const same = mirror.bucket === bucket;
    const present = new Set<string>();
    let last = lastRevision;
    for (const { kvKey, value, revision } of snapshot.values()) {
      const document = value && decodeDocument(kvKey, value);
      if (document) present.add(document.key);
      last = Math.max(last, revision);
    }
    this.#keys.clear();
    this.#gone.clear();
    for (const { key } of [...table.all()]) if (!present.has(key)) this.#remove(key, last);
    for (const change of snapshot.values()) this.#take(change, same);
    this.#advance(last);
    mirror.adopt(bucket);
  }

  apply(change: BucketChange): void {
    this.#take(change, false);
    this.#advance(change.revision);
  }

  /** Another bucket may count from 1 again. */
  restart(): void {
    this.#seen = 0;
  }

  /** Resolves once `done`, asked after each change; or when `release` is called. */
  async until(done: () => boolean): Promise<void> {
    if (done()) return;
    await new Promise<void>((resolve) => this.#waiters.add({ done, resolve }));
  }

  /** Nothing more comes: whoever waits goes on with what is known. */
  release(): void {
    for (const { resolve } of this.#waiters) resolve();
    this.#waiters.clear();
  }

  #advance(revision: number): void {
    this.#seen = Math.max(this.#seen, revision);
    for (const waiter of this.#waiters) {
      if (!waiter.done()) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  #take({ kvKey, value, revision }: BucketChange, unlessKnown: boolean): void {
    const document = value && decodeDocument(kvKey, value);
    if (document && this.#fits(document.key, value.length)) {
      this.#gone.delete(kvKey);
      this.#keys.set(kvKey, document.key);
      if (unlessKnown && this.#options.table.get(document.key)?.revision === revision) return;
      this.#options.table.set(document.key, document.value, revision, value.length);
      this.#options.mirror.note({ ...document, revision });
      return;
    }
    if (value !== undefined) this.#refuse(kvKey);
    const key = this.#keys.get(kvKey);
    this.#keys.delete(kvKey);
    this.#gone.delete(kvKey);
    this.#gone.set(kvKey, {
      kvKey,
      revision,
      atMs: this.#options.clock.now(),
      deleted: value === undefined,
    });
    if (this.#gone.size > MAX_GONE) this.#gone.delete(this.#gone.keys().next().value!);
    if (key !== undefined) this.#remove(key, revision);
  }

  #fits(key: string, bytes: number): boolean {
    try {
      this.#options.table.checkRoom(key, bytes);
      return true;
    } catch {
      return false;
    }
  }

  #refuse(kvKey: string): void {
    this.#foreign.inc();
    this.#options.logger.warn({ key: kvKey }, 'an entry of the control bucket is none of ours or too much');
  }

  #remove(key: string, revision: number): void {
    this.#options.table.remove(key, revision);
    this.#options.mirror.note({ key, value: undefined, revision });
  }
}
