import type { DocStore } from './doc-store.ts';

/** Entries on this machine's disk; the shape of the ledger's shelf. */
export interface NotifyShelf {
  write(changes: readonly { readonly key: string; readonly value?: unknown }[], sync: boolean): Promise<void>;
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>;
}

const PREFIX = 'notify/away/';

/**
 * The documents while the control store is away: what was last known of it, with what was written since on the local
 * disk over it. The shelf holds only what came about in the outage.
 */
export class ShelfDocs implements DocStore {
  readonly #shelf: NotifyShelf;
  readonly #docs: Map<string, unknown>;

  private constructor(shelf: NotifyShelf, docs: Map<string, unknown>) {
    this.#shelf = shelf;
    this.#docs = docs;
  }

  static async open(
    shelf: NotifyShelf,
    known: Iterable<{ readonly key: string; readonly value: unknown }>,
  ): Promise<ShelfDocs> {
    const docs = new Map<string, unknown>();
    for (const { key, value } of known) docs.set(key, value);
    for (const [key, value] of await writtenAway(shelf)) docs.set(key, value);
    return new ShelfDocs(shelf, docs);
  }

  *entries(prefix: string): Iterable<{ readonly key: string; readonly value: unknown }> {
    for (const [key, value] of this.#docs) if (value !== null && key.startsWith(prefix)) yield { key, value };
  }

  async put(key: string, value: unknown): Promise<void> {
    await this.#shelf.write([{ key: PREFIX + key, value }], true);
    this.#docs.set(key, value);
  }

  /** The control store may have it still: null says that it is gone. */
  delete(key: string): Promise<void> {
    return this.put(key, null);
  }
}

/** What was written while the control store was away. */
export async function writtenAway(shelf: NotifyShelf): Promise<[key: string, value: unknown][]> {
  const found: [string, unknown][] = [];
  for await (const [key, value] of shelf.entries(PREFIX)) found.push([key.slice(PREFIX.length), value]);
  return found;
}

export async function forgetAway(shelf: NotifyShelf): Promise<void> {
  const keys = (await writtenAway(shelf)).map(([key]) => ({ key: PREFIX + key }));
  if (keys.length > 0) await shelf.write(keys, true);
}
