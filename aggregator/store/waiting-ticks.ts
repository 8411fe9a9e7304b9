import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { isWritten, MAX_SPAN_BATCH_SAMPLES } from './write-batch.ts';

/** Ticks of one dictionary that go together: beyond sixteen a store saves little more (feasibility: 0.45 to 0.42). */
const MAX_TICKS = 16;

interface Row {
  readonly values: Float64Array;
  readonly states: Uint8Array;
  timestampMs: number;
}

/** Ticks of one dictionary that wait, in order of time. */
interface Group<Outcome> {
  readonly source: Source;
  readonly dictionary: Dictionary;
  readonly rows: Row[];
  readonly done: PromiseWithResolvers<Outcome>;
  samples: number;
}

/** Ticks to write together; the arrays are reused by the next. */
export interface TakenTicks<Outcome> {
  readonly span: BlockSpan;
  /** Resolves what `add` returned for each of them. */
  resolve(outcome: Outcome | Promise<Outcome>): void;
}

/**
 * Live ticks for which no request may be sent yet. What a store pays for is parsing the labels of a series, so the
 * ticks of one dictionary are kept together: the further it is behind, the less the rest costs it.
 */
export class WaitingTicks<Outcome> {
  /** The longest waiting first. */
  readonly #groups = new Set<Group<Outcome>>();
  /** The one of each dictionary that takes more. */
  readonly #open = new Map<Dictionary, Group<Outcome>>();
  /** Rows to use again, by their number of slots. */
  readonly #free = new Map<number, Row[]>();
  #values = new Float64Array(0);
  #states = new Uint8Array(0);
  readonly #timestamps = new Float64Array(MAX_TICKS);
  #samples = 0;
  #bytes = 0;

  /** Samples, stale markers included. */
  get samples(): number {
    return this.#samples;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#groups.size === 0;
  }

  /** Copies the block; resolves with what became of it. */
  add(block: Block): Promise<Outcome> {
    const group = this.#groupFor(block);
    const slots = block.dictionary.series.length;
    const row = this.#rowOf(slots);
    row.timestampMs = block.timestampMs;
    row.values.set(block.values.subarray(0, slots));
    row.states.set(block.states.subarray(0, slots));
    let samples = 0;
    for (let slot = 0; slot < slots; slot++) if (isWritten(row.states[slot]!)) samples++;
    group.rows.push(row);
    group.samples += samples;
    this.#samples += samples;
    this.#bytes += bytesOf(row);
    return group.done.promise;
  }

  /** Those that have waited longest; undefined where nothing waits. */
  take(): TakenTicks<Outcome> | undefined {
    const [group] = this.#groups;
    if (!group) return undefined;
    const { source, dictionary, rows, done } = group;
    const slots = dictionary.series.length;
    if (this.#states.length < rows.length * slots) {
      this.#values = new Float64Array(rows.length * slots);
      this.#states = new Uint8Array(rows.length * slots);
    }
    for (const [tick, row] of rows.entries()) {
      this.#values.set(row.values, tick * slots);
      this.#states.set(row.states, tick * slots);
      this.#timestamps[tick] = row.timestampMs;
    }
    this.#remove(group);
    const span: BlockSpan = {
      ...{ source, dictionary, ticks: rows.length },
      ...{ timestamps: this.#timestamps, values: this.#values, states: this.#states },
    };
    return { span, resolve: done.resolve };
  }

  /** Lets go of all, with one outcome. */
  clear(outcome: Outcome): void {
    for (const group of this.#groups) {
      this.#remove(group);
      group.done.resolve(outcome);
    }
  }

  #groupFor({ source, dictionary, timestampMs }: Block): Group<Outcome> {
    const open = this.#open.get(dictionary);
    const most = Math.min(MAX_TICKS, Math.floor(MAX_SPAN_BATCH_SAMPLES / dictionary.series.length));
    if (
      open &&
      open.source === source &&
      open.rows.length < most &&
      open.rows.at(-1)!.timestampMs < timestampMs
    )
      return open;
    const group = { source, dictionary, rows: [], done: Promise.withResolvers<Outcome>(), samples: 0 };
    this.#groups.add(group);
    this.#open.set(dictionary, group);
    return group;
  }

  #rowOf(slots: number): Row {
    return (
      this.#free.get(slots)?.pop() ?? {
        ...{ values: new Float64Array(slots), states: new Uint8Array(slots) },
        timestampMs: 0,
      }
    );
  }

  #remove(group: Group<Outcome>): void {
    this.#groups.delete(group);
    if (this.#open.get(group.dictionary) === group) this.#open.delete(group.dictionary);
    this.#samples -= group.samples;
    for (const row of group.rows) this.#bytes -= bytesOf(row);
    // Nothing waits any more: the memory of a bad hour is not kept for the next.
    if (this.#groups.size === 0) this.#free.clear();
    else {
      const slots = group.dictionary.series.length;
      const free = this.#free.get(slots);
      if (free) free.push(...group.rows);
      else this.#free.set(slots, [...group.rows]);
    }
  }
}

function bytesOf({ values, states }: Row): number {
  return values.byteLength + states.byteLength;
}
