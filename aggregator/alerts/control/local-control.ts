import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ControlShelf } from './control-shelf.ts';
import type { ControlChange, ControlEntry, ControlState, ControlStore } from './control-store.ts';
import { bytesOf, type Checked, checkDocument, checkKey } from './document.ts';
import { DocumentTable } from './document-table.ts';
import { type KeptDocument, keptChanges, readKept } from './kept-documents.ts';

/** A write that waits for its turn; without `checked` the document goes. */
interface Write {
  readonly key: string;
  readonly checked: Checked | undefined;
  readonly expected: number;
  readonly done: PromiseWithResolvers<number | undefined>;
}

/** Writes that wait for the disk; each is a caller's, and callers wait for theirs. */
const MAX_WAITING = 10_000;

/** The documents of a process that is alone: in memory, and on its disk before a write resolves. */
export class LocalControl implements ControlStore {
  readonly state: ControlState = 'local';
  readonly #shelf: ControlShelf;
  readonly #table = new DocumentTable();
  #revision = 0;
  #waiting: Write[] = [];
  #writing: Promise<void> | undefined;
  #closed = false;

  private constructor(shelf: ControlShelf) {
    this.#shelf = shelf;
  }

  static async open(shelf: ControlShelf): Promise<LocalControl> {
    const store = new LocalControl(shelf);
    const { documents, head } = await readKept(shelf);
    store.#revision = head.revision;
    for (const { key, value, revision } of documents) {
      store.#table.set(key, value, revision, bytesOf(value));
      store.#revision = Math.max(store.#revision, revision);
    }
    return store;
  }

  get(key: string): ControlEntry | undefined {
    return this.#table.get(key);
  }

  entries(prefix: string): readonly ControlEntry[] {
    return this.#table.entries(prefix);
  }

  async put(key: string, value: unknown, expected: number): Promise<number | undefined> {
    return this.#submit(key, checkDocument(key, value), expected);
  }

  async delete(key: string, expected: number): Promise<boolean> {
    checkKey(key);
    if (expected === 0) return this.get(key) === undefined;
    return (await this.#submit(key, undefined, expected)) !== undefined;
  }

  watch(prefix: string, listener: (change: ControlChange) => void): Disposable {
    return this.#table.watch(prefix, listener);
  }

  onState(listener: (state: ControlState) => void): Disposable {
    return this.#table.onState(listener);
  }

  /** What was given before is written. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }

  #submit(key: string, checked: Checked | undefined, expected: number): Promise<number | undefined> {
    if (this.#closed)
      throw new FleetError('unavailable', `Cannot write document ${key}: the aggregator is stopping`);
    if (this.#waiting.length >= MAX_WAITING)
      throw new FleetError('resource_exhausted', `Cannot write document ${key}: too many writes wait`);
    const done = Promise.withResolvers<number | undefined>();
    this.#waiting.push({ key, checked, expected, done });
    this.#writing ??= this.#run();
    return done.promise;
  }

  /** All writes that wait share one fsync. */
  async #run(): Promise<void> {
    // A turn later, so that what one caller starts together goes together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const writes = this.#waiting;
      this.#waiting = [];
      await this.#write(writes);
    }
    // At once: who is told by the last write and writes again must start a new run.
    this.#writing = undefined;
  }

  async #write(writes: readonly Write[]): Promise<void> {
    /** What the writes of this batch have made of the documents so far. */
    const made = new Map<string, KeptDocument & { bytes: number }>();
    const won: { write: Write; revision: number }[] = [];
    const lost: Write[] = [];
    const more = { documents: 0, bytes: 0 };
    let revision = this.#revision;
    for (const write of writes) {
      const { key, checked, expected, done } = write;
      const before = made.get(key) ?? this.#table.get(key);
      const is = before?.value === undefined ? 0 : before.revision;
      if (is !== expected) {
        lost.push(write);
        continue;
      }
      try {
        if (checked !== undefined) this.#table.checkRoom(key, checked.bytes, more);
      } catch (thrown) {
        done.reject(thrown);
        continue;
      }
      if (checked !== undefined && is === 0) more.documents++;
      more.bytes += checked?.bytes ?? 0;
      revision++;
      made.set(key, { key, value: checked?.value, revision, bytes: checked?.bytes ?? 0 });
      won.push({ write, revision });
    }
    try {
      if (won.length > 0) await this.#shelf.write(keptChanges(made.values(), { revision, bucket: '' }), true);
    } catch (cause) {
      // Those that lost may have lost to one that was not written.
      for (const { done, key } of writes)
        done.reject(
          new FleetError('unavailable', `Cannot write document ${key}: the disk refuses`, { cause }),
        );
      return;
    }
    this.#revision = revision;
    for (const { write, revision: given } of won) {
      if (write.checked === undefined) this.#table.remove(write.key, given);
      else this.#table.set(write.key, write.checked.value, given, write.checked.bytes);
      write.done.resolve(given);
    }
    for (const { done } of lost) done.resolve(undefined);
  }
}
