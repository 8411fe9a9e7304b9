import { setImmediate } from 'node:timers/promises';
import type { Mark } from './alert-group.ts';
import type { DocStore } from './doc-store.ts';
import type { Notification } from './notification.ts';
import { packNotification, unpackNotification } from './notification-codec.ts';
import { decodeRecord, encodeRecord, MAX_RECORD_ALERTS, type SentRecord } from './sent-record.ts';

/** Of one document of a snapshot: 64 KiB is the most. */
const PAGE_BYTES = 40 * 1024;
/** Records encoded in one go, a few ms. */
const ENCODED_AT_ONCE = 200;

interface Head {
  readonly n: number;
  readonly pages: number;
  readonly sending?: string;
}

/** What the books hold when a notifier takes them over. */
export interface LoadedBooks {
  readonly records: readonly SentRecord[];
  /** Of a snapshot that was being told. */
  readonly sending: Notification | undefined;
}

/**
 * What was told to one endpoint, in documents: `sent/<endpoint>/<group>` for each group that was told by itself, and
 * a snapshot `sent-all/<endpoint>/...` of all groups where many, or one too large for a document, were told at once.
 * A group's own document counts over the snapshot where it is newer. Pages are written before the head that makes
 * them count, and what is obsolete goes last, so that a crash at any moment leaves one state or the other.
 */
export class SentBooks {
  readonly #docs: DocStore;
  readonly #own: string;
  readonly #all: string;
  /** Groups with a document of their own, and its number; infinite while it is being told. */
  readonly #single = new Map<string, number>();
  /** Groups of whom the snapshot has the last word. */
  readonly #inSnapshot = new Set<string>();
  /** Documents that only say that a group of the snapshot has gone. */
  readonly #buried = new Set<string>();
  #head: Head | undefined;
  #n = 0;
  /** The last write: one follows the other, so that documents are written in the order of their numbers. */
  #last: Promise<void> = Promise.resolve();

  constructor(docs: DocStore, endpoint: string) {
    this.#docs = docs;
    this.#own = `sent/${endpoint}/`;
    this.#all = `sent-all/${endpoint}/`;
  }

  /** Call once, before anything else. What is obsolete is deleted with the next snapshot. */
  load(): LoadedBooks {
    const head = [...this.#docs.entries(this.#all)].find(({ key }) => key === `${this.#all}head`);
    this.#head = head?.value as Head | undefined;
    this.#n = this.#head?.n ?? 0;
    const records = new Map<string, SentRecord>();
    if (this.#head !== undefined) this.#loadPages(this.#head, records);
    for (const key of records.keys()) this.#inSnapshot.add(key);
    for (const { key, value } of this.#docs.entries(this.#own)) {
      const record = decodeRecord(value);
      this.#single.set(key.slice(this.#own.length), record === undefined ? 0 : orderOf(record));
      if (record === undefined) continue;
      this.#n = Math.max(this.#n, record.n);
      if (record.n < (this.#head?.n ?? 0) && record.sending === undefined) continue;
      records.set(record.identity.key, record);
      this.#inSnapshot.delete(record.identity.key);
    }
    const sending = this.#head?.sending === undefined ? undefined : unpackNotification(this.#head.sending);
    return { records: [...records.values()], sending };
  }

  /** The number of the next record; to be asked for right before it is written. */
  next(): number {
    return ++this.#n;
  }

  fits(told: ReadonlyMap<string, Mark>): boolean {
    return told.size <= MAX_RECORD_ALERTS;
  }

  /** A group that is told by itself; one of which nothing is left to remember goes. */
  put(record: SentRecord): Promise<void> {
    return this.#inOrder(() => this.#put(record));
  }

  /** All groups of the endpoint at once, as they will be when `sending` is told. */
  putAll(records: readonly SentRecord[], n: number, sending: Notification | undefined): Promise<void> {
    return this.#inOrder(() => this.#putAll(records, n, sending));
  }

  /** What the snapshot was made for is told. */
  finishAll(): Promise<void> {
    return this.#inOrder(() => this.#finishAll());
  }

  #inOrder(write: () => Promise<void>): Promise<void> {
    const done = this.#last.then(write);
    this.#last = done.catch(() => {});
    return done;
  }

  async #put(record: SentRecord): Promise<void> {
    const { key } = record.identity;
    const over = record.told.size === 0 && record.sending === undefined;
    if (over && !this.#inSnapshot.has(key) && !this.#buried.has(key)) {
      if (this.#single.delete(key)) await this.#docs.delete(this.#own + key);
      return;
    }
    await this.#docs.put(this.#own + key, encodeRecord(record));
    this.#single.set(key, orderOf(record));
    this.#inSnapshot.delete(key);
    if (over) this.#buried.add(key);
    else this.#buried.delete(key);
    if (this.#head !== undefined && this.#head.sending === undefined && this.#inSnapshot.size === 0)
      await this.#dropSnapshot();
  }

  async #putAll(records: readonly SentRecord[], n: number, sending: Notification | undefined): Promise<void> {
    const before = this.#head;
    const pages = await pagesOf(records);
    for (const [index, page] of pages.entries())
      await this.#docs.put(`${this.#all}${n}.${index}`, { groups: page });
    const head: Head = {
      ...{ n, pages: pages.length },
      ...(sending !== undefined && { sending: packNotification(sending) }),
    };
    await this.#docs.put(`${this.#all}head`, head);
    this.#head = head;
    this.#inSnapshot.clear();
    for (const { identity, told } of records)
      if (told.size > 0 && this.#single.get(identity.key) !== Number.POSITIVE_INFINITY)
        this.#inSnapshot.add(identity.key);
    if (before !== undefined) await this.#dropPages(before);
    await this.#dropSingles(n);
  }

  async #finishAll(): Promise<void> {
    if (this.#head?.sending === undefined) return;
    const head: Head = { n: this.#head.n, pages: this.#head.pages };
    await this.#docs.put(`${this.#all}head`, head);
    this.#head = head;
    if (this.#inSnapshot.size === 0) await this.#dropSnapshot();
  }

  #loadPages(head: Head, records: Map<string, SentRecord>): void {
    const parts = new Map<string, Map<string, Mark>>();
    for (const { key, value } of this.#docs.entries(`${this.#all}${head.n}.`)) {
      if (!key.startsWith(`${this.#all}${head.n}.`)) continue;
      const { groups } = value as { groups?: unknown };
      for (const raw of Array.isArray(groups) ? groups : []) {
        const record = decodeRecord(raw);
        if (record === undefined) continue;
        const { key: group } = record.identity;
        const told = parts.get(group) ?? new Map<string, Mark>();
        // A group too large for a page is on several.
        for (const [id, mark] of record.told) told.set(id, mark);
        parts.set(group, told);
        records.set(group, { ...record, told });
      }
    }
  }

  /** Those that the snapshot has the last word of. */
  async #dropSingles(n: number): Promise<void> {
    for (const [key, order] of this.#single) {
      if (order > n) continue;
      await this.#docs.delete(this.#own + key);
      this.#single.delete(key);
      this.#buried.delete(key);
    }
  }

  async #dropSnapshot(): Promise<void> {
    const head = this.#head!;
    this.#head = undefined;
    await this.#docs.delete(`${this.#all}head`);
    await this.#dropPages(head);
    for (const key of [...this.#buried]) {
      this.#buried.delete(key);
      this.#single.delete(key);
      await this.#docs.delete(this.#own + key);
    }
  }

  async #dropPages(head: Head): Promise<void> {
    for (let page = 0; page < head.pages; page++) await this.#docs.delete(`${this.#all}${head.n}.${page}`);
  }
}

function orderOf({ n, sending }: SentRecord): number {
  return sending === undefined ? n : Number.POSITIVE_INFINITY;
}

async function pagesOf(records: readonly SentRecord[]): Promise<unknown[][]> {
  const pages: unknown[][] = [];
  let page: unknown[] = [];
  let bytes = 0;
  for (const [index, part] of records.flatMap(splitRecord).entries()) {
    // A storm has tens of thousands: all else must not wait for them.
    if (index % ENCODED_AT_ONCE === ENCODED_AT_ONCE - 1) await setImmediate();
    const encoded = encodeRecord(part);
    const size = JSON.stringify(encoded).length + 1;
    if (bytes + size > PAGE_BYTES && page.length > 0) {
      pages.push(page);
      [page, bytes] = [[], 0];
    }
    page.push(encoded);
    bytes += size;
  }
  if (page.length > 0) pages.push(page);
  return pages;
}

function splitRecord(record: SentRecord): SentRecord[] {
  if (record.told.size === 0) return [];
  const marks = [...record.told];
  const parts: SentRecord[] = [];
  for (let at = 0; at < marks.length; at += MAX_RECORD_ALERTS)
    parts.push({ ...record, told: new Map(marks.slice(at, at + MAX_RECORD_ALERTS)) });
  return parts;
}
