import type { ControlShelf } from '../control/control-shelf.ts';
import type { ChainedEntry } from './audit-entry.ts';

const ENTRIES = 'audit/';
const HEAD = 'audit-head';
const DIGITS = 16;
/** Entries that share all but the last three digits of their key are read together: newest first, a block at a time. */
export const BLOCK = 1_000;

/** The end of the chain. */
export interface AuditHead {
  readonly seq: number;
  readonly hash: string;
  readonly idMs: number;
}

const NOTHING: AuditHead = { seq: 0, hash: '', idMs: 0 };

/** One shard's chain on a shelf. */
export class AuditDisk {
  readonly #shelf: ControlShelf;

  constructor(shelf: ControlShelf) {
    this.#shelf = shelf;
  }

  /** The head, and the oldest entry that is kept. */
  async open(): Promise<{ head: AuditHead; first: ChainedEntry | undefined }> {
    let head = NOTHING;
    let first: ChainedEntry | undefined;
    for await (const [, value] of this.#shelf.entries(HEAD)) head = value as AuditHead;
    const known = head !== NOTHING;
    for await (const [, value] of this.#shelf.entries(ENTRIES)) {
      const entry = value as ChainedEntry;
      first ??= entry;
      if (known) break;
      // The head is unreadable: the log goes on behind its newest entry, never over it.
      head = { seq: entry.seq, hash: entry.hash, idMs: Number(entry.id.slice(0, 13)) };
    }
    return { head, first };
  }

  /** On the disk when it resolves. */
  async append(entries: readonly ChainedEntry[], head: AuditHead): Promise<void> {
    await this.#shelf.write(
      [...entries.map((entry) => ({ key: keyOf(entry.seq), value: entry })), { key: HEAD, value: head }],
      true,
    );
  }

  /** Takes entries away and appends the anchor that says so, or neither. */
  async replace(from: number, to: number, anchor: ChainedEntry, head: AuditHead): Promise<void> {
    const gone: { key: string }[] = [];
    for (let seq = from; seq <= to; seq++) gone.push({ key: keyOf(seq) });
    await this.#shelf.write(
      [...gone, { key: keyOf(anchor.seq), value: anchor }, { key: HEAD, value: head }],
      true,
    );
  }

  /** Newest first, from the sequence on, down to `first`. */
  async *backwards(seq: number, first: number): AsyncIterable<ChainedEntry> {
    for (let block = Math.floor(seq / BLOCK); block >= Math.floor(first / BLOCK); block--) {
      const entries = await this.block(block);
      for (const entry of entries.reverse()) if (entry.seq <= seq) yield entry;
    }
  }

  /** In order. */
  async block(block: number): Promise<ChainedEntry[]> {
    const entries: ChainedEntry[] = [];
    const prefix = keyOf(block * BLOCK).slice(0, -3);
    for await (const [, value] of this.#shelf.entries(prefix)) entries.push(value as ChainedEntry);
    return entries;
  }

  /** In order, from a sequence on, at most a block. */
  async after(seq: number, upTo: number): Promise<ChainedEntry[]> {
    for (let block = Math.floor((seq + 1) / BLOCK); block <= Math.floor(upTo / BLOCK); block++) {
      const entries = (await this.block(block)).filter((entry) => entry.seq > seq);
      if (entries.length > 0) return entries;
    }
    return [];
  }

  /** The sequence of the first entry whose id is not below that one, or `end`. Ids rise with the sequence. */
  async seek(id: string, first: number, end: number): Promise<number> {
    let low = first;
    let high = end;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const entry = await this.#read(middle);
      // An unreadable one is as good as a low one: what is behind it is filtered by who asks.
      if (entry !== undefined && entry.id >= id) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async #read(seq: number): Promise<ChainedEntry | undefined> {
    for await (const [, value] of this.#shelf.entries(keyOf(seq))) return value as ChainedEntry;
    return undefined;
  }
}

function keyOf(seq: number): string {
  return `${ENTRIES}${String(seq).padStart(DIGITS, '0')}`;
}
