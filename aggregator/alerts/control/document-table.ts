import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ControlChange, ControlEntry, ControlState } from './control-store.ts';
import { MAX_DOCUMENTS, MAX_TOTAL_BYTES } from './document.ts';

interface Held extends ControlEntry {
  readonly bytes: number;
}

interface Watcher {
  readonly prefix: string;
  readonly listener: (change: ControlChange) => void;
}

/** The documents in memory, and who is to hear of their changes. Bounded by who writes (see checkRoom). */
export class DocumentTable {
  /** By the first part of the key: a prefix such as `silence/` looks at silences alone. */
  readonly #kinds = new Map<string, Map<string, Held>>();
  readonly #watchers = new Set<Watcher>();
  readonly #stateListeners = new Set<(state: ControlState) => void>();
  #count = 0;
  #bytes = 0;

  get count(): number {
    return this.#count;
  }

  get(key: string): ControlEntry | undefined {
    return this.#kinds.get(kindOf(key))?.get(key);
  }

  entries(prefix: string): ControlEntry[] {
    const found: ControlEntry[] = [];
    const kinds = prefix.includes('/') ? [this.#kinds.get(kindOf(prefix))] : this.#kinds.values();
    for (const kind of kinds) {
      if (kind === undefined) continue;
      for (const entry of kind.values()) if (entry.key.startsWith(prefix)) found.push(entry);
    }
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  *all(): IterableIterator<ControlEntry> {
    for (const kind of this.#kinds.values()) yield* kind.values();
  }

  /** Throws `resource_exhausted` where a document of that size does not fit beside `more` others. */
  checkRoom(key: string, bytes: number, more = { documents: 0, bytes: 0 }): void {
    const before = this.#kinds.get(kindOf(key))?.get(key);
    const documents = this.#count + more.documents + (before === undefined ? 1 : 0);
    if (
      documents > MAX_DOCUMENTS ||
      this.#bytes + more.bytes + bytes - (before?.bytes ?? 0) > MAX_TOTAL_BYTES
    )
      throw new FleetError(
        'resource_exhausted',
        `Cannot write document ${key}: there are ${this.#count} with ${this.#bytes} bytes already`,
      );
  }

  set(key: string, value: unknown, revision: number, bytes: number): void {
    let kind = this.#kinds.get(kindOf(key));
    if (kind === undefined) {
      kind = new Map();
      this.#kinds.set(kindOf(key), kind);
    }
    const before = kind.get(key);
    kind.set(key, { key, value, revision, bytes });
    this.#bytes += bytes - (before?.bytes ?? 0);
    if (before === undefined) this.#count++;
    this.#tell({ key, value, revision });
  }

  /** Nothing happens where there is none. */
  remove(key: string, revision: number): void {
    const kind = this.#kinds.get(kindOf(key));
    const before = kind?.get(key);
    if (kind === undefined || before === undefined) return;
    kind.delete(key);
    if (kind.size === 0) this.#kinds.delete(kindOf(key));
    this.#bytes -= before.bytes;
    this.#count--;
    this.#tell({ key, value: undefined, revision });
  }

  watch(prefix: string, listener: (change: ControlChange) => void): Disposable {
    const watcher = { prefix, listener };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  onState(listener: (state: ControlState) => void): Disposable {
    const own = (state: ControlState): void => listener(state);
    this.#stateListeners.add(own);
    return { [Symbol.dispose]: () => void this.#stateListeners.delete(own) };
  }

  tellState(state: ControlState): void {
    for (const listener of this.#stateListeners) listener(state);
  }

  #tell(change: ControlChange): void {
    for (const { prefix, listener } of this.#watchers) if (change.key.startsWith(prefix)) listener(change);
  }
}

function kindOf(key: string): string {
  const slash = key.indexOf('/');
  return slash < 0 ? key : key.slice(0, slash);
}
