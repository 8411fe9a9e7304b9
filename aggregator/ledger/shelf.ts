/** One change of a shelf; without a value the entry goes. */
export interface ShelfChange {
  readonly key: string;
  readonly value?: unknown;
}

/** Entries on disk, ordered by key: what the ledger needs of a database, handed in by who opens it. */
export interface Shelf {
  /** All changes or none; with `sync` they are on the disk when this resolves. */
  write(changes: readonly ShelfChange[], sync: boolean): Promise<void>;
  /** Entries whose key begins with the prefix, in order of their keys. */
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>;
}

/** Keys sort as text: 16 digits hold more than any process can count. */
export function orderedKey(prefix: string, number: number): string {
  return `${prefix}${String(number).padStart(16, '0')}`;
}
