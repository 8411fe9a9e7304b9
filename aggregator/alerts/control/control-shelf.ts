/** One change of a shelf; without a value the entry goes. */
interface ShelfChange {
  readonly key: string;
  readonly value?: unknown;
}

/** Entries on disk, ordered by key, handed in by who opens the database. */
export interface ControlShelf {
  /** All changes or none; with `sync` they are on the disk when this resolves. */
  write(changes: readonly ShelfChange[], sync: boolean): Promise<void>;
  /** Entries whose key begins with the prefix, in order of their keys. */
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>;
}
