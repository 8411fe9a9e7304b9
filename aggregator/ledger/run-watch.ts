import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { Shelf } from './shelf.ts';

/** What an agent says of itself at its Hello. */
export interface WatchedPeer {
  readonly source: { readonly cluster: string; readonly node: string };
  readonly clockSkewSeconds: number;
  /** Oldest first, the live one last. */
  readonly runs: readonly {
    readonly id: string;
    readonly firstSequence: number;
    readonly lastSequence: number;
  }[];
}

/** And every few seconds. */
export interface WatchedStatus {
  /** Unix ms, 0 where there is none. */
  readonly oldestUndurableMs: number;
  readonly pendingRecords: number;
  readonly pendingSamples: number;
  readonly samplesPerSecond: number;
}

/** The loss of a run that is gone. The same run has the same identity, however often it is noticed. */
export interface VanishedRun extends Loss {
  readonly identity: string;
}

interface Known extends WatchedStatus {
  readonly run: string;
  readonly heardAtMs: number;
  readonly skewMs: number;
  /** There are records: a run without may leave the disk unseen. */
  readonly hasRecords: boolean;
  /** It has said how far behind it is. */
  readonly hasStatus: boolean;
}

export interface RunWatchOptions {
  readonly shelf: Shelf;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Most nodes known; 100,000 by default. The one heard least lately is forgotten. */
  readonly maxNodes?: number;
}

const PREFIX = 'run/';
/** The end of the year 9999, beyond which no Timestamp goes. */
const MAX_TIME_MS = 253_402_300_799_999;
/** How far back a ring reaches by default: older samples of a run were gone, and ledgered by its agent, before it. */
const RING_MS = 86_400_000;

/**
 * Knows the live run of each node and how far it was behind, so that a run which is no longer on its disk (a node
 * reimaged, a disk replaced) is a loss with a range and a count, and not silence.
 *
 * A run may also leave the disk in order: an agent trims its ring from the oldest record on, says itself what it
 * trimmed before it was durable, and drops runs that are all gone. Where the oldest run that is left does not begin
 * at 1, the ring has trimmed beyond the run that is missing: no loss of ours. Where it does, either the disk is a new
 * one or the trimming ended exactly between two runs: that is called vanished, as an entry too many can be explained,
 * and one too few is silence.
 */
export class RunWatch {
  readonly #options: RunWatchOptions;
  readonly #maxNodes: number;
  readonly #known = new Map<string, Known>();
  readonly #dirty = new Set<string>();
  /** Nodes whose loss is not known to be on disk: what they were before must stay there until it is. */
  readonly #held = new Set<string>();
  /** Settles when all writes have: each waits for the one before, for LevelDB takes them in any order. */
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(options: RunWatchOptions) {
    this.#options = options;
    this.#maxNodes = options.maxNodes ?? 100_000;
  }

  static async open(options: RunWatchOptions): Promise<RunWatch> {
    const watch = new RunWatch(options);
    const stored: (readonly [string, Known])[] = [];
    for await (const [key, value] of options.shelf.entries(PREFIX))
      stored.push([key.slice(PREFIX.length), value as Known]);
    stored.sort(([, a], [, b]) => a.heardAtMs - b.heardAtMs);
    for (const [key, known] of stored) watch.#known.set(key, known);
    return watch;
  }

  /**
   * What vanished with the run that this node had before, if it did. The caller enters it in the ledger and then
   * calls `recorded`: until then a restart notices the same again.
   */
  connected({ source, runs, clockSkewSeconds }: WatchedPeer): VanishedRun | undefined {
    const now = this.#options.clock.now();
    const key = keyOf(source);
    const before = this.#known.get(key);
    const live = runs.at(-1);
    if (!live) return undefined;
    // Its backlog is still there, and its next status will say how much: until then the last one holds.
    const isThere = before !== undefined && runs.some((run) => run.id === before.run);
    const skewMs = (Number.isFinite(clockSkewSeconds) ? clockSkewSeconds : 0) * 1000;
    const next: Known = {
      ...(isThere ? before : NOTHING),
      run: live.id,
      // What it recorded since its last status is not told by its Hello: its first status will. Nor do records
      // tell it: a live tick may have been deferred, and waits on its disk.
      heardAtMs: isThere ? before.heardAtMs : now,
      skewMs,
      hasRecords: runs.some((run) => run.lastSequence >= run.firstSequence) || (isThere && before.hasRecords),
    };
    const vanished =
      before !== undefined && !isThere && before.hasRecords && runs[0]!.firstSequence <= 1
        ? lossOf(before, now, skewMs)
        : undefined;
    if (vanished) this.#held.add(key);
    this.#set(key, next);
    // A run that nobody has written down cannot be missed: this one does not wait for the next flush.
    if (before?.run !== live.id && !vanished) this.#writeNow(key);
    return vanished;
  }

  /** The loss that `connected` told is in the ledger. */
  recorded({ source }: Pick<WatchedPeer, 'source'>): void {
    const key = keyOf(source);
    if (this.#held.delete(key)) this.#writeNow(key);
  }

  /** How far behind a node is. Until `flush` it is in memory alone. */
  status({ source, runs }: WatchedPeer, status: WatchedStatus & { readonly lateMs: number }): void {
    const live = runs.at(-1);
    const key = keyOf(source);
    const before = this.#known.get(key);
    if (!live || before?.run !== live.id) return;
    const now = this.#options.clock.now();
    this.#set(key, {
      run: live.id,
      skewMs: before.skewMs,
      // What lay in a socket while this process was stopped is not news of now.
      heardAtMs: now - countOf(status.lateMs),
      oldestUndurableMs: Math.min(countOf(status.oldestUndurableMs), MAX_TIME_MS),
      pendingRecords: countOf(status.pendingRecords),
      pendingSamples: countOf(status.pendingSamples),
      samplesPerSecond: rateOf(status.samplesPerSecond) || before.samplesPerSecond,
      hasRecords: before.hasRecords || status.samplesPerSecond > 0 || status.pendingRecords > 0,
      hasStatus: true,
    });
  }

  /** The last status of a node, or undefined. */
  statusOf(cluster: string, node: string): WatchedStatus | undefined {
    const known = this.#known.get(keyOf({ cluster, node }));
    return known?.hasStatus ? known : undefined;
  }

  /**
   * Writes down what changed, without fsync, and waits for what is being written already: a few seconds of it only
   * make an estimate worse. To be called every few seconds, and at the end. Rejects where the disk refuses; the next
   * call tries again.
   */
  async flush(): Promise<void> {
    const keys = [...this.#dirty].filter((key) => !this.#held.has(key));
    for (const key of keys) this.#dirty.delete(key);
    await this.#write(keys);
  }

  #writeNow(key: string): void {
    this.#dirty.delete(key);
    this.#write([key]).catch((error: unknown) =>
      this.#options.logger.error({ cause: describeError(error) }, 'cannot write down the run of a node'),
    );
  }

  #write(keys: readonly string[]): Promise<void> {
    const changes = keys.map((key) => ({ key: `${PREFIX}${key}`, value: this.#known.get(key) }));
    const write = this.#writing.then(() => this.#put(keys, changes));
    this.#writing = write.catch(() => {});
    return write;
  }

  async #put(keys: readonly string[], changes: Parameters<Shelf['write']>[0]): Promise<void> {
    if (changes.length === 0) return;
    try {
      await this.#options.shelf.write(changes, false);
    } catch (error) {
      for (const key of keys) this.#dirty.add(key);
      throw error;
    }
  }

  #set(key: string, known: Known): void {
    // Moved to the end: the first is the one heard least lately.
    this.#known.delete(key);
    this.#known.set(key, known);
    this.#dirty.add(key);
    if (this.#known.size <= this.#maxNodes) return;
    const [oldest] = this.#known.keys();
    this.#known.delete(oldest!);
    this.#held.delete(oldest!);
    this.#dirty.add(oldest!);
  }
}

const NOTHING = {
  oldestUndurableMs: 0,
  pendingRecords: 0,
  pendingSamples: 0,
  samplesPerSecond: 0,
  hasStatus: false,
};

function lossOf(before: Known, now: number, skewMs: number): VanishedRun {
  const unheardMs = Math.min(RING_MS, Math.max(0, now - before.heardAtMs));
  // The samples carry the node's own clock.
  const heardMs = before.heardAtMs + Math.min(0, before.skewMs);
  const oldestMs = before.hasStatus ? before.oldestUndurableMs || heardMs : heardMs - RING_MS;
  const toMs = now + Math.max(0, skewMs, before.skewMs);
  return {
    identity: `vanished/${before.run}`,
    fromMs: Math.min(oldestMs, toMs),
    toMs,
    samples: Math.round(before.pendingSamples + (before.samplesPerSecond * unheardMs) / 1000),
    reason: 'run_vanished',
    estimated: true,
    detail: detailOf(before),
  };
}

function detailOf({ run, hasStatus, pendingSamples }: Known): string {
  const known = hasStatus
    ? `when last heard ${pendingSamples} of its samples were not in the store`
    : 'it had not said yet how far behind it was';
  return `Run ${run} is no longer on the node's disk (reimaged, disk replaced, or its buffer set aside): ${known}, and what it recorded since is counted by its rate`;
}

function keyOf({ cluster, node }: { cluster: string; node: string }): string {
  return `${cluster}\n${node}`;
}

function countOf(value: number): number {
  return Number.isFinite(value) ? Math.min(Math.max(0, Math.round(value)), Number.MAX_SAFE_INTEGER) : 0;
}

function rateOf(value: number): number {
  return Number.isFinite(value) ? Math.max(0, value) : 0;
}
