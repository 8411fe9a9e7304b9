import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Shelf, ShelfChange } from '../../../aggregator/ledger/shelf.ts';
import { openLevelShelf } from '../../../aggregator/level-shelf.ts';
import type { TempDir } from '../../support/temp.ts';
import { ManualClock } from '../alerts/block-of.ts';

/** A shelf in real LevelDB, and what a stage on it asks for besides. */
export async function shelfIn(path: string, clock = new ManualClock()) {
  const registry = createRegistry();
  const shelf = await openLevelShelf(path, { clock, logger: silentLogger, registry });
  return {
    path,
    shelf,
    clock,
    registry,
    logger: silentLogger,
    [Symbol.asyncDispose]: () => shelf[Symbol.asyncDispose](),
  };
}

/** The disk as it is at this moment, as after a kill -9: what is only in memory is gone. */
export function crashCopy(dir: TempDir, from: string): string {
  const copy = join(dir.path, `copy-${Math.random().toString(36).slice(2)}`);
  cpSync(from, copy, { recursive: true });
  return copy;
}

/** In memory, and refuses when told to. */
export class FakeShelf implements Shelf {
  readonly values = new Map<string, unknown>();
  readonly syncs: boolean[] = [];
  refuses = false;
  /** Writes wait for it. */
  gate: Promise<void> = Promise.resolve();

  async write(changes: readonly ShelfChange[], sync: boolean): Promise<void> {
    await this.gate;
    if (this.refuses) throw new Error('disk full');
    this.syncs.push(sync);
    for (const { key, value } of changes) {
      if (value === undefined) this.values.delete(key);
      else this.values.set(key, structuredClone(value));
    }
  }

  async *entries(prefix: string): AsyncIterable<readonly [string, unknown]> {
    for (const key of [...this.values.keys()].sort()) {
      if (key.startsWith(prefix)) yield [key, this.values.get(key)];
    }
  }
}
