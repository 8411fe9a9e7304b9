import { setImmediate as turn } from 'node:timers/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type {
  ControlChange,
  ControlEntry,
  ControlState,
  ControlStore,
} from '../../../../aggregator/alerts/control/control-store.ts';

/** What all clients of a test share: compare-and-set on one revision counter, as the real bucket has it. */
export class MemoryBucket {
  readonly documents = new Map<string, ControlEntry>();
  readonly clients = new Set<MemoryControl>();
  revision = 0;

  client(): MemoryControl {
    const client = new MemoryControl(this);
    this.clients.add(client);
    return client;
  }
}

/** A client with a mirror of its own, which hears of others' writes a turn later. */
export class MemoryControl implements ControlStore {
  state: ControlState = 'shared';
  /** Called before each write; may throw, or write something of its own first. */
  beforePut: (key: string) => void | Promise<void> = () => {};
  readonly #bucket: MemoryBucket;
  readonly #mirror: Map<string, ControlEntry>;
  readonly #watches = new Set<{ prefix: string; listener: (change: ControlChange) => void }>();

  constructor(bucket: MemoryBucket) {
    this.#bucket = bucket;
    this.#mirror = new Map(bucket.documents);
  }

  get(key: string): ControlEntry | undefined {
    return this.#mirror.get(key);
  }

  entries(prefix: string): ControlEntry[] {
    return [...this.#mirror.values()]
      .filter(({ key }) => key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async put(key: string, value: unknown, expected: number): Promise<number | undefined> {
    await this.beforePut(key);
    await turn();
    if (this.state === 'away') throw new FleetError('unavailable', 'Cannot write: away');
    const text = JSON.stringify(value);
    if (text.length > 65_536) throw new FleetError('invalid_input', 'Cannot write: too large');
    if ((this.#bucket.documents.get(key)?.revision ?? 0) !== expected) {
      this.#catchUp();
      return undefined;
    }
    const revision = ++this.#bucket.revision;
    this.#tell({ key, value: JSON.parse(text), revision });
    return revision;
  }

  async delete(key: string, expected: number): Promise<boolean> {
    await turn();
    if ((this.#bucket.documents.get(key)?.revision ?? 0) !== expected) return false;
    this.#tell({ key, value: undefined, revision: ++this.#bucket.revision });
    return true;
  }

  watch(prefix: string, listener: (change: ControlChange) => void): Disposable {
    const watch = { prefix, listener };
    this.#watches.add(watch);
    return { [Symbol.dispose]: () => void this.#watches.delete(watch) };
  }

  onState(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#bucket.clients.delete(this);
  }

  #tell(change: ControlChange): void {
    if (change.value === undefined) this.#bucket.documents.delete(change.key);
    else this.#bucket.documents.set(change.key, change);
    for (const client of this.#bucket.clients) {
      if (client === this) client.#hear(change);
      else setImmediate(() => client.#hear(change));
    }
  }

  #hear(change: ControlChange): void {
    if ((this.#mirror.get(change.key)?.revision ?? 0) >= change.revision) return;
    if (change.value === undefined) this.#mirror.delete(change.key);
    else this.#mirror.set(change.key, change);
    for (const { prefix, listener } of this.#watches) if (change.key.startsWith(prefix)) listener(change);
  }

  #catchUp(): void {
    for (const entry of this.#bucket.documents.values()) this.#hear(entry);
  }
}
