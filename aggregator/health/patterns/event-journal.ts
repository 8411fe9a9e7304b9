import type { Work } from '../work.ts';

/** Something that happened to a GPU or a node, as the patterns see it. */
export interface PatternEvent {
  readonly ms: number;
  readonly cluster: string;
  readonly node: string;
  /** UUID of the GPU, or its index; empty where it concerns the whole node. */
  readonly gpu: string;
  /** `xid 79`, `gpu_lost`, `anomaly peer gpu_temperature_celsius`, `state critical`, `drain`, `repair` ... */
  readonly code: string;
}

/** Equal events of one GPU within so long are one (method of the Delta study of A100 and H100, SC'25). */
const COALESCE_MS = 5000;
/** 100 chunks of 1,000: about 20 MB. At the rates of Summit's 27,756 GPUs (252,000 Xids in a year) five months. */
const CHUNK = 1000;
const MAX_CHUNKS = 100;
/** One GPU that says the same all day must not push out the fleet: of Summit's NVLink errors 97 % were one node's. */
const MAX_EACH_DAY = 48;
/** Subjects whose newest time is kept for coalescing. */
const MAX_RECENT = 100_000;
/** Older than this is not looked at by any pattern. */
const KEEP_MS = 90 * 86_400_000;
/** A word that a source made up may be long. */
const MAX_TEXT = 200;

interface Recent {
  lastMs: number;
  day: number;
  today: number;
}

interface Chunk {
  readonly id: number;
  readonly events: PatternEvent[];
  newestMs: number;
  changed: boolean;
}

/** As stored: one array for each event. */
export type StoredChunk = readonly (readonly [
  ms: number,
  cluster: string,
  node: string,
  gpu: string,
  code: string,
])[];

/** The events of the last 90 days, coalesced, at most 100,000; the oldest go first. */
export class EventJournal {
  readonly #maxChunks: number;
  readonly #chunks: Chunk[] = [];
  readonly #recent = new Map<string, Recent>();
  #nextId = 0;
  #size = 0;
  #coalesced = 0;

  constructor(maxChunks: number = MAX_CHUNKS) {
    this.#maxChunks = maxChunks;
  }

  get size(): number {
    return this.#size;
  }

  /** Events that were one with another, or too many of one subject in a day. */
  get coalesced(): number {
    return this.#coalesced;
  }

  /** Whether it was kept: not where it is one with another, or one of too many. */
  add(event: PatternEvent): boolean {
    if (!Number.isFinite(event.ms) || !this.#isNews(event)) return false;
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.events.length >= CHUNK) chunk = this.#begin(this.#nextId);
    chunk.events.push(short(event));
    chunk.newestMs = Math.max(chunk.newestMs, event.ms);
    chunk.changed = true;
    this.#size++;
    return true;
  }

  /** From `fromMs` to before `untilMs`, in order of time. What is added meanwhile may be in it or not. */
  *between(fromMs: number, untilMs: number): Work<PatternEvent[]> {
    let runs: PatternEvent[][] = [];
    for (const chunk of [...this.#chunks]) {
      if (chunk.newestMs < fromMs) continue;
      const run = chunk.events.filter(({ ms }) => ms >= fromMs && ms < untilMs);
      if (run.length > 0) runs.push(run.sort((a, b) => a.ms - b.ms));
      yield;
    }
    // Pairs of neighbours, so that equal times stay in the order in which they came.
    while (runs.length > 1) {
      const merged: PatternEvent[][] = [];
      for (let i = 0; i < runs.length; i += 2)
        merged.push(runs[i + 1] === undefined ? runs[i]! : yield* merge(runs[i]!, runs[i + 1]!));
      runs = merged;
    }
    return runs[0] ?? [];
  }

  /** Forgets what is older than 90 days, a chunk at a time. */
  expire(nowMs: number): void {
    while (this.#chunks.length > 0 && this.#chunks[0]!.newestMs < nowMs - KEEP_MS) this.#drop();
  }

  /** Chunks that changed since the last call, to be stored under their ids; and the oldest id that is still there. */
  changes(): { readonly chunks: ReadonlyMap<number, StoredChunk>; readonly oldest: number } {
    const chunks = new Map<number, StoredChunk>();
    for (const chunk of this.#chunks) {
      if (!chunk.changed) continue;
      chunk.changed = false;
      chunks.set(
        chunk.id,
        chunk.events.map((one) => [one.ms, one.cluster, one.node, one.gpu, one.code] as const),
      );
    }
    return { chunks, oldest: this.#chunks[0]?.id ?? this.#nextId };
  }

  /** After a failed write: everything is stored again. */
  allChanged(): void {
    for (const chunk of this.#chunks) chunk.changed = true;
  }

  /** Puts a stored chunk back; in order of ids, before any event is added. */
  restore(id: number, stored: StoredChunk): void {
    const chunk = this.#begin(id);
    for (const [ms, cluster, node, gpu, code] of stored.slice(0, CHUNK)) {
      const event = { ms, cluster, node, gpu, code };
      this.#isNews(event);
      chunk.events.push(event);
      chunk.newestMs = Math.max(chunk.newestMs, ms);
    }
    this.#size += chunk.events.length;
  }

  #begin(id: number): Chunk {
    if (this.#chunks.length >= this.#maxChunks) this.#drop();
    const chunk: Chunk = { id, events: [], newestMs: Number.NEGATIVE_INFINITY, changed: false };
    this.#nextId = id + 1;
    this.#chunks.push(chunk);
    return chunk;
  }

  #drop(): void {
    this.#size -= this.#chunks.shift()!.events.length;
  }

  #isNews(event: PatternEvent): boolean {
    const key = `${subjectOf(event)}\0${event.code}`;
    const day = Math.floor(event.ms / 86_400_000);
    let recent = this.#recent.get(key);
    if (recent === undefined) {
      if (this.#recent.size >= MAX_RECENT) this.#forgetRecent();
      recent = { lastMs: Number.NEGATIVE_INFINITY, day, today: 0 };
      this.#recent.set(key, recent);
    }
    const close = Math.abs(event.ms - recent.lastMs) <= COALESCE_MS;
    recent.lastMs = Math.max(recent.lastMs, event.ms);
    if (recent.day !== day) {
      recent.day = day;
      recent.today = 0;
    }
    const news = !close && recent.today < MAX_EACH_DAY;
    if (news) recent.today++;
    else this.#coalesced++;
    return news;
  }

  /** The oldest tenth: one by one, each would be looked for past all that went before. */
  #forgetRecent(): void {
    let left = MAX_RECENT / 10;
    for (const oldest of this.#recent.keys()) {
      if (left-- <= 0) break;
      this.#recent.delete(oldest);
    }
  }
}

/** Two runs in order of time as one. */
function* merge(a: readonly PatternEvent[], b: readonly PatternEvent[]): Work<PatternEvent[]> {
  const all: PatternEvent[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    all.push(b[j]!.ms < a[i]!.ms ? b[j++]! : a[i++]!);
    if (all.length % CHUNK === 0) yield;
  }
  while (i < a.length) all.push(a[i++]!);
  while (j < b.length) all.push(b[j++]!);
  return all;
}

/** What one event concerns: the GPU, or the node. */
export function subjectOf({ cluster, node, gpu }: PatternEvent): string {
  return `${cluster}/${node}/${gpu}`;
}

export function nodeOf({ cluster, node }: PatternEvent): string {
  return `${cluster}/${node}`;
}

function short(event: PatternEvent): PatternEvent {
  return event.code.length <= MAX_TEXT && event.gpu.length <= MAX_TEXT
    ? event
    : { ...event, code: event.code.slice(0, MAX_TEXT), gpu: event.gpu.slice(0, MAX_TEXT) };
}
