/** One change of a shelf; without a value the entry goes. */
export interface HealthShelfChange {
  readonly key: string;
  readonly value?: unknown;
}

/** Entries on disk, ordered by key: what health needs of a database, handed in by who opens it. */
export interface HealthShelf {
  /** All changes or none; with `sync` they are on the disk when this resolves. */
  write(changes: readonly HealthShelfChange[], sync: boolean): Promise<void>;
  /** Entries whose key begins with the prefix, in order of their keys. */
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>;
}
