import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';

/** What is looked for; what is not given matches all. */
export interface TransitionFilter {
  readonly uuid?: string;
  readonly cluster?: string;
  readonly node?: string;
  /** Unix milliseconds: `sinceMs` <= time < `untilMs`. */
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** The state it went to; FLAPPING finds those that the flap guard held, whatever the state. */
  readonly state?: HealthState;
}

interface ColumnRow {
  readonly number: number;
  readonly uuid: string;
  readonly cluster: string;
  readonly node: string;
  readonly atMs: number;
  readonly to: HealthState;
  readonly flapping: boolean;
}

/** A text that stands in rows, by a number of its own. */
interface Interned {
  readonly id: number;
  rows: number;
}

const FIRST_CAPACITY = 1024;
/** Set in a row's state where the flap guard held it. */
const FLAPPING_BIT = 0x80;

/**
 * What the log's filters ask for, in typed arrays: 25 bytes a row, so that a million rows are gone through in
 * milliseconds and only those that match are read from disk. Rows stand in the order of their numbers.
 */
export class TransitionColumns {
  #numbers = new Float64Array(FIRST_CAPACITY);
  #times = new Float64Array(FIRST_CAPACITY);
  #gpus = new Uint32Array(FIRST_CAPACITY);
  #nodes = new Uint32Array(FIRST_CAPACITY);
  #states = new Uint8Array(FIRST_CAPACITY);
  /** Rows stand in [head, end); a row whose GPU is 0 is gone. */
  #head = 0;
  #end = 0;
  #rows = 0;
  readonly #gpuIds = new Map<string, Interned>();
  readonly #nodeIds = new Map<string, Interned>();
  readonly #gpuNames = new Map<number, string>();
  readonly #nodeNames = new Map<number, string>();
  #nextId = 1;

  /** Rows that are there. */
  get size(): number {
    return this.#rows;
  }

  /** Rows for which there is memory. */
  get capacity(): number {
    return this.#numbers.length;
  }

  /** Rows of one GPU. */
  rowsOf(uuid: string): number {
    return this.#gpuIds.get(uuid)?.rows ?? 0;
  }

  /** Numbers must rise. */
  add({ number, uuid, cluster, node, atMs, to, flapping }: ColumnRow): void {
    if (this.#end === this.#numbers.length) this.#makeRoom();
    const at = this.#end++;
    this.#numbers[at] = number;
    this.#times[at] = atMs;
    this.#states[at] = to | (flapping ? FLAPPING_BIT : 0);
    this.#gpus[at] = this.#take(this.#gpuIds, this.#gpuNames, uuid);
    this.#nodes[at] = this.#take(this.#nodeIds, this.#nodeNames, `${cluster}\n${node}`);
    this.#rows++;
  }

  /** Number and time of the oldest row, or undefined. */
  get oldest(): { readonly number: number; readonly atMs: number } | undefined {
    if (this.#rows === 0) return undefined;
    return { number: this.#numbers[this.#head]!, atMs: this.#times[this.#head]! };
  }

  /** Takes the oldest row away, or the oldest of one GPU; its number, or undefined. */
  dropOldest(uuid?: string): number | undefined {
    const wanted = uuid === undefined ? undefined : this.#gpuIds.get(uuid)?.id;
    if (uuid !== undefined && wanted === undefined) return undefined;
    for (let at = this.#head; at < this.#end; at++) {
      if (this.#gpus[at] === 0 || (wanted !== undefined && this.#gpus[at] !== wanted)) continue;
      this.#release(this.#gpuIds, this.#gpuNames, this.#gpus[at]!);
      this.#release(this.#nodeIds, this.#nodeNames, this.#nodes[at]!);
      this.#gpus[at] = 0;
      this.#rows--;
      while (this.#head < this.#end && this.#gpus[this.#head] === 0) this.#head++;
      return this.#numbers[at]!;
    }
    return undefined;
  }

  /** Numbers of at most `limit` rows that match, newest first, of those under `before`. */
  find(filter: TransitionFilter, before: number, limit: number): number[] {
    const found: number[] = [];
    const gpu = filter.uuid === undefined ? undefined : this.#gpuIds.get(filter.uuid)?.id;
    if (filter.uuid !== undefined && gpu === undefined) return found;
    const nodes = this.#nodesOf(filter);
    const { sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY, state } = filter;
    for (let at = this.#end - 1; at >= this.#head && found.length < limit; at--) {
      if (this.#gpus[at] === 0 || this.#numbers[at]! >= before) continue;
      if (gpu !== undefined && this.#gpus[at] !== gpu) continue;
      if (nodes !== undefined && !nodes.has(this.#nodes[at]!)) continue;
      if (state !== undefined && !isState(this.#states[at]!, state)) continue;
      const time = this.#times[at]!;
      if (time >= sinceMs && time < untilMs) found.push(this.#numbers[at]!);
    }
    return found;
  }

  /** Ids of the nodes that a filter asks for, or undefined for all. */
  #nodesOf({ cluster, node }: TransitionFilter): Set<number> | undefined {
    if (cluster === undefined && node === undefined) return undefined;
    const ids = new Set<number>();
    for (const [name, { id }] of this.#nodeIds) {
      const [itsCluster, itsNode] = name.split('\n');
      if ((cluster ?? itsCluster) === itsCluster && (node ?? itsNode) === itsNode) ids.add(id);
    }
    return ids;
  }

  #take(ids: Map<string, Interned>, names: Map<number, string>, name: string): number {
    let interned = ids.get(name);
    if (interned === undefined) {
      interned = { id: this.#nextId++, rows: 0 };
      ids.set(name, interned);
      names.set(interned.id, name);
    }
    interned.rows++;
    return interned.id;
  }

  #release(ids: Map<string, Interned>, names: Map<number, string>, id: number): void {
    const name = names.get(id)!;
    const interned = ids.get(name)!;
    if (--interned.rows > 0) return;
    ids.delete(name);
    names.delete(id);
  }

  /** Closes the gaps, and doubles where that does not free half. */
  #makeRoom(): void {
    const capacity = this.#rows * 2 > this.#numbers.length ? this.#numbers.length * 2 : this.#numbers.length;
    const numbers = new Float64Array(capacity);
    const times = new Float64Array(capacity);
    const gpus = new Uint32Array(capacity);
    const nodes = new Uint32Array(capacity);
    const states = new Uint8Array(capacity);
    let to = 0;
    for (let at = this.#head; at < this.#end; at++) {
      if (this.#gpus[at] === 0) continue;
      numbers[to] = this.#numbers[at]!;
      times[to] = this.#times[at]!;
      gpus[to] = this.#gpus[at]!;
      nodes[to] = this.#nodes[at]!;
      states[to++] = this.#states[at]!;
    }
    this.#numbers = numbers;
    this.#times = times;
    this.#gpus = gpus;
    this.#nodes = nodes;
    this.#states = states;
    this.#head = 0;
    this.#end = to;
  }
}

function isState(stored: number, wanted: HealthState): boolean {
  if (wanted === HealthState.FLAPPING) return (stored & FLAPPING_BIT) !== 0;
  return (stored & ~FLAPPING_BIT) === wanted;
}
