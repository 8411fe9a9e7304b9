/** A document and its revision; revisions rise with each change of any document of the store. */
export interface ControlEntry {
  readonly key: string;
  /** JSON. */
  readonly value: unknown;
  readonly revision: number;
}

/** What happened to a document; `value` is undefined where it was deleted. */
export interface ControlChange {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
}

export type ControlState =
  /** There is no NATS: this process is alone, and the documents are on its disk. */
  | 'local'
  /** In step with the other aggregators. */
  | 'shared'
  /** NATS is configured and away: what was last known is readable, nothing can be changed. */
  | 'away';

/**
 * Small documents that all aggregators of a cluster share (silences, leases, what was notified, actions, shares), each
 * changed by compare-and-set, so that of two that race one learns that it lost. Keys are parts joined by `/`, such as
 * `silence/5f0c`; a part may hold any text. At most 64 KiB a document and 100,000 documents.
 */
export interface ControlStore extends AsyncDisposable {
  readonly state: ControlState;
  /** As last known here; while `shared`, at most a network round trip old. */
  get(key: string): ControlEntry | undefined;
  /** In order of their keys. */
  entries(prefix: string): readonly ControlEntry[];
  /**
   * Writes a document where its revision still is `expected` (0: where there is none); resolves with the new revision
   * when it is on disk, or undefined where another was first (and `get` then has the other's). Throws `unavailable`
   * while `away`, `invalid_input` for one that is too large, `resource_exhausted` where there are too many.
   */
  put(key: string, value: unknown, expected: number): Promise<number | undefined>;
  /** The same for taking a document away; true where it is gone. */
  delete(key: string, expected: number): Promise<boolean>;
  /**
   * Tells of changes below a prefix, ours included, in order and each once, until disposed. Of a document that changes
   * faster than it is read the last value is told. The listener must not throw.
   */
  watch(prefix: string, listener: (change: ControlChange) => void): Disposable;
  /** Tells of each change of `state`, until disposed. */
  onState(listener: (state: ControlState) => void): Disposable;
}
