import type {
  ControlChange,
  ControlEntry,
  ControlState,
  ControlStore,
} from '../../../../aggregator/alerts/control/control-store.ts';

/** What several notifiers of a test share: compare-and-set as the real one has it. */
export class MemoryControl implements ControlStore {
  state: ControlState = 'local';
  readonly docs = new Map<string, ControlEntry>();
  readonly #watchers = new Set<{ prefix: string; listener: (change: ControlChange) => void }>();
  #revision = 0;
  largest = 0;

  get(key: string): ControlEntry | undefined {
    return this.docs.get(key);
  }

  entries(prefix: string): readonly ControlEntry[] {
    return [...this.docs.values()]
      .filter((entry) => entry.key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async put(key: string, value: unknown, expected: number): Promise<number | undefined> {
    if (this.state === 'away') throw new Error('away');
    if ((this.docs.get(key)?.revision ?? 0) !== expected) return undefined;
    const revision = ++this.#revision;
    const text = JSON.stringify(value);
    this.largest = Math.max(this.largest, text.length);
    this.docs.set(key, { key, value: JSON.parse(text) as unknown, revision });
    this.#tell({ key, value, revision });
    return revision;
  }

  async delete(key: string, expected: number): Promise<boolean> {
    if (this.state === 'away') throw new Error('away');
    const known = this.docs.get(key);
    if (known !== undefined && known.revision !== expected) return false;
    this.docs.delete(key);
    this.#tell({ key, value: undefined, revision: ++this.#revision });
    return true;
  }

  watch(prefix: string, listener: (change: ControlChange) => void): Disposable {
    const own = { prefix, listener };
    this.#watchers.add(own);
    return { [Symbol.dispose]: () => void this.#watchers.delete(own) };
  }

  onState(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #tell(change: ControlChange): void {
    for (const { prefix, listener } of this.#watchers) if (change.key.startsWith(prefix)) listener(change);
  }
}

/** The same store as one process sees it: `gate` is awaited before and after each change, and may stop it there. */
export function gatedControl(control: MemoryControl, gate: (at: string) => Promise<void>): ControlStore {
  return {
    get state() {
      return control.state;
    },
    get: (key) => control.get(key),
    entries: (prefix) => control.entries(prefix),
    async put(key, value, expected) {
      await gate(`put ${key}`);
      const revision = await control.put(key, value, expected);
      await gate(`did put ${key}`);
      return revision;
    },
    async delete(key, expected) {
      await gate(`delete ${key}`);
      const gone = await control.delete(key, expected);
      await gate(`did delete ${key}`);
      return gone;
    },
    watch: (prefix, listener) => control.watch(prefix, listener),
    onState: () => control.onState(),
    async [Symbol.asyncDispose]() {},
  };
}
