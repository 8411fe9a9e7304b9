import type { BlockSpan, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';

/** Cells (ticks x slots) of one span: 2 MiB of values. A message with more of them becomes several spans. */
export const MAX_SPAN_CELLS = 256 * 1024;

/**
 * Rows of decoded ticks, laid side by side for the store. One for all streams of a server: the stage below reads a
 * span during the call, so its memory is bounded by this one table however many agents drain a backlog at once.
 */
export class SpanTable {
  readonly #values: Float64Array;
  readonly #states: Uint8Array;
  readonly #timestamps: Float64Array;
  readonly #cells: number;
  #ticks = 0;

  /** The largest dictionary has fewer slots than the default: one tick always fits. */
  constructor(cells = MAX_SPAN_CELLS) {
    this.#cells = cells;
    this.#values = new Float64Array(cells);
    this.#states = new Uint8Array(cells);
    this.#timestamps = new Float64Array(cells);
  }

  get ticks(): number {
    return this.#ticks;
  }

  /** Whether another tick of this many slots still fits. */
  fits(slots: number): boolean {
    return (this.#ticks + 1) * slots <= this.#cells && this.#ticks < this.#cells;
  }

  add(timestampMs: number, values: Float64Array, states: Uint8Array): void {
    const at = this.#ticks * values.length;
    this.#values.set(values, at);
    this.#states.set(states, at);
    this.#timestamps[this.#ticks++] = timestampMs;
  }

  /** The rows as a span, valid until the next add; the table is empty then. */
  take(source: Source, dictionary: Dictionary): BlockSpan {
    const ticks = this.#ticks;
    this.#ticks = 0;
    return {
      source,
      dictionary,
      ticks,
      timestamps: this.#timestamps,
      values: this.#values,
      states: this.#states,
    };
  }

  clear(): void {
    this.#ticks = 0;
  }
}
