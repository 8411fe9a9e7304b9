/** Documents that a notifier alone writes while it is in charge, by key. */
export interface DocStore {
  entries(prefix: string): Iterable<{ readonly key: string; readonly value: unknown }>;
  /** Resolves when it is kept. Rejects where it is not known to be, also where another notifier has written it. */
  put(key: string, value: unknown): Promise<void>;
  delete(key: string): Promise<void>;
}
