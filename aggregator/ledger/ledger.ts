import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Clock } from '#shared/model/clock.ts';
import {
  foldEntries,
  keptAfter,
  type LedgerEntry,
  MAX_FOLDED,
  reasonLabel,
  type ToldLoss,
  tidyLoss,
} from './ledger-entry.ts';
import { orderedKey, type Shelf, type ShelfChange } from './shelf.ts';

export interface LossFilter {
  readonly node?: string;
  readonly reason?: string;
  /** Entries whose range overlaps this one, Unix ms; open where not given. */
  readonly fromMs?: number;
  readonly toMs?: number;
}

export interface LedgerOptions {
  readonly shelf: Shelf;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most entries kept; 100,000 by default (about 60 MB). */
  readonly maxEntries?: number;
  /** Most entries of one node; 10,000 by default. */
  readonly maxEntriesPerNode?: number;
}

/** Whose loss it is. */
export interface LossSource {
  readonly cluster: string;
  readonly node: string;
}

const PREFIX = 'loss/';
/** Entries that go at a time when all is full and no node has two to fold. */
const DROP_BATCH = 100;
/**
 * What was recorded, or should have been, and will never be in the store: per node, time range, count and reason.
 *
 * Bounded without forgetting: where a node has too many entries, or all nodes together, the older half of those of
 * the node that has most becomes one entry for each reason, with their range and their sum. So a node that loses
 * without end pushes out nobody else's. Only where every node has a single entry left, the oldest leave, counted.
 */
export class Ledger {
  readonly #options: LedgerOptions;
  readonly #maxEntries: number;
  readonly #maxPerNode: number;
  /** By key, oldest first; by node, the same; and by the record that said it. */
  readonly #entries = new Map<string, LedgerEntry>();
  readonly #ofNode = new Map<string, Set<string>>();
  readonly #keys = new Map<string, string>();
  readonly #writing = new Map<string, Promise<LedgerEntry>>();
  readonly #lost: Counter<'reason'>;
  readonly #dropped: Counter;
  /** Changes that the disk refused. */
  #unwritten: ShelfChange[] = [];
  #next = 1;

  private constructor(options: LedgerOptions) {
    this.#options = options;
    this.#maxEntries = options.maxEntries ?? 100_000;
    this.#maxPerNode = options.maxEntriesPerNode ?? 10_000;
    this.#lost = counter(options.registry, {
      name: 'gpufleet_lost_samples_total',
      help: 'Samples that will never be in the store, by reason: reported by agents or found here, since the start.',
      labelNames: ['reason'],
    });
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_ledger_dropped_entries_total',
      help: 'Entries that left the loss ledger because it was full and nothing could be folded.',
    });
    const entries = (): number => this.#entries.size;
    gauge(options.registry, {
      name: 'gpufleet_ledger_entries',
      help: 'Entries in the loss ledger.',
      collect() {
        this.set(entries());
      },
    });
  }

  static async open(options: LedgerOptions): Promise<Ledger> {
    const ledger = new Ledger(options);
    for await (const [key, value] of options.shelf.entries(PREFIX)) ledger.#put(key, value as LedgerEntry);
    return ledger;
  }

  /** Whether a record's loss is known: then its alert was raised, too. */
  knows(source: LossSource, identity: string): boolean {
    const name = nameOf(source, identity);
    return this.#keys.has(name) || this.#writing.has(name);
  }

  /** Resolves when the loss is on disk; one that is known already changes nothing. Rejects where it cannot be kept. */
  async record(source: LossSource, identity: string, loss: ToldLoss): Promise<LedgerEntry> {
    const name = nameOf(source, identity);
    const known = this.#keys.get(name);
    if (known !== undefined) return this.#entries.get(known)!;
    // The same loss may come again while it is being written: told "kept" only when it is.
    const underWay = this.#writing.get(name);
    if (underWay) return underWay;
    const writing = this.#record(source, identity, loss).finally(() => this.#writing.delete(name));
    this.#writing.set(name, writing);
    return writing;
  }

  /**
   * A loss that is none any more: a dead letter that the store has taken after all. Where its entry was folded, the
   * sum of that one goes down.
   */
  async forget({ id, cluster, node, reason, samples }: LedgerEntry): Promise<void> {
    const own = orderedKey(PREFIX, Number(id));
    const entry = this.#entries.get(own);
    if (entry && entry.folded === undefined) {
      await this.#options.shelf.write([{ key: own }], true);
      this.#remove(own);
      return;
    }
    const keys = this.#ofNode.get(nodeOf({ cluster, node })) ?? [];
    for (const key of keys) {
      const folded = this.#entries.get(key)!;
      if (folded.folded === undefined || folded.reason !== reason) continue;
      const rest = keptAfter(folded, samples);
      await this.#options.shelf.write([rest ? { key, value: rest } : { key }], true);
      if (rest) this.#entries.set(key, rest);
      else this.#remove(key);
      return;
    }
  }

  /** What matches, newest first. */
  list(filter: LossFilter = {}): LedgerEntry[] {
    const found: LedgerEntry[] = [];
    for (const entry of this.#entries.values()) if (matches(entry, filter)) found.push(entry);
    return found.reverse();
  }

  async #record(source: LossSource, identity: string, loss: ToldLoss): Promise<LedgerEntry> {
    const key = orderedKey(PREFIX, this.#next++);
    const entry: LedgerEntry = {
      id: String(Number(key.slice(PREFIX.length))),
      cluster: source.cluster,
      node: source.node,
      identity,
      ...tidyLoss(loss),
      recordedAtMs: this.#options.clock.now(),
    };
    await this.#options.shelf.write([{ key, value: entry }], true);
    this.#put(key, entry);
    this.#lost.inc({ reason: reasonLabel(entry.reason) }, entry.samples);
    await this.#shrink(nodeOf(source));
    return entry;
  }

  /** Keeps to the limits. Where the disk refuses, the next entry brings it along. */
  async #shrink(node: string): Promise<void> {
    let changes: ShelfChange[] = [];
    if ((this.#ofNode.get(node)?.size ?? 0) > this.#maxPerNode) changes = this.#fold(node);
    if (this.#entries.size > this.#maxEntries) {
      const most = this.#largestNode();
      changes =
        this.#ofNode.get(most)!.size > 2 * MAX_FOLDED
          ? [...changes, ...this.#fold(most)]
          : this.#dropOldest();
    }
    this.#unwritten.push(...changes);
    if (this.#unwritten.length === 0) return;
    const writing = this.#unwritten;
    this.#unwritten = [];
    await this.#options.shelf.write(writing, false).catch(() => this.#unwritten.unshift(...writing));
  }

  #fold(node: string): ShelfChange[] {
    const keys = [...this.#ofNode.get(node)!];
    const older = keys.slice(0, Math.ceil(keys.length / 2));
    const folded = foldEntries(older.map((key) => [key, this.#entries.get(key)!]));
    for (const key of older) {
      const entry = folded.get(key);
      if (entry) this.#entries.set(key, entry);
      else this.#remove(key);
    }
    return older.map((key) => ({ key, value: folded.get(key) }));
  }

  #dropOldest(): ShelfChange[] {
    const gone: ShelfChange[] = [];
    const many = Math.min(DROP_BATCH, Math.ceil(this.#maxEntries / 2));
    for (const key of this.#entries.keys()) {
      if (gone.length === many) break;
      this.#remove(key);
      this.#dropped.inc();
      gone.push({ key });
    }
    return gone;
  }

  #largestNode(): string {
    let largest = '';
    let most = -1;
    for (const [node, { size }] of this.#ofNode) if (size > most) [largest, most] = [node, size];
    return largest;
  }

  #put(key: string, entry: LedgerEntry): void {
    this.#entries.set(key, entry);
    this.#keys.set(nameOf(entry, entry.identity), key);
    const node = nodeOf(entry);
    const ofNode = this.#ofNode.get(node);
    if (ofNode) ofNode.add(key);
    else this.#ofNode.set(node, new Set([key]));
    this.#next = Math.max(this.#next, Number(key.slice(PREFIX.length)) + 1);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#keys.delete(nameOf(entry, entry.identity));
    const node = nodeOf(entry);
    const ofNode = this.#ofNode.get(node)!;
    ofNode.delete(key);
    if (ofNode.size === 0) this.#ofNode.delete(node);
  }
}

function nodeOf({ cluster, node }: LossSource): string {
  return `${cluster}\n${node}`;
}

function nameOf(source: LossSource, identity: string): string {
  return `${nodeOf(source)}\n${identity}`;
}

function matches(entry: LedgerEntry, { node, reason, fromMs, toMs }: LossFilter): boolean {
  if (node !== undefined && entry.node !== node) return false;
  if (reason !== undefined && entry.reason !== reason) return false;
  if (fromMs !== undefined && entry.toMs < fromMs) return false;
  return toMs === undefined || entry.fromMs <= toMs;
}
