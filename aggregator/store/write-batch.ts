import type { Block } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { templateOf, timestampOffset, valueOffset, writeTimestamp } from './series-template.ts';

/** One request holds at most this many samples and raw bytes: far below VictoriaMetrics' 32 MiB. */
export const MAX_BATCH_SAMPLES = 10_000;
export const MAX_BATCH_BYTES = 4 * 2 ** 20;

const FIRST_BYTES = 256 * 1024;
/** Prometheus' stale marker: the NaN with this payload and no other (little endian: low word first). */
const STALE_LOW = 0x00000002;
const STALE_HIGH = 0x7ff00000;

/**
 * A remote write request under construction: raw protobuf, and where each series begins, so that a request that
 * the store refuses can be cut in two without coding anything again.
 */
export class WriteBatch {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #view = viewOf(this.#bytes);
  #length = 0;
  #starts = new Uint32Array(1024);
  #samples = 0;
  readonly #timestamp = new Uint8Array(6);

  /** Samples, stale markers included: one for each series. */
  get samples(): number {
    return this.#samples;
  }

  get byteLength(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#samples >= MAX_BATCH_SAMPLES || this.#length >= MAX_BATCH_BYTES;
  }

  /** The raw bytes of series `from` up to `to`; valid until the next append. */
  slice(from = 0, to = this.#samples): Buffer {
    return this.#bytes.subarray(
      this.#starts[from] ?? 0,
      to >= this.#samples ? this.#length : this.#starts[to]!,
    );
  }

  clear(): void {
    this.#length = 0;
    this.#samples = 0;
  }

  /** Adds the block's samples from a slot on, until the batch is full; returns the slot to go on with. */
  append(block: Block, fromSlot: number): number {
    const { dictionary, states, values, source } = block;
    const template = templateOf(dictionary, source);
    const { offsets } = template;
    const slots = dictionary.series.length;
    writeTimestamp(this.#timestamp, block.timestampMs);
    let slot = fromSlot;
    while (slot < slots && !this.isFull) {
      if (!isWritten(states[slot]!)) {
        slot++;
        continue;
      }
      // A run of written slots is one copy.
      let end = slot + 1;
      const most = Math.min(slots, slot + MAX_BATCH_SAMPLES - this.#samples);
      while (
        end < most &&
        isWritten(states[end]!) &&
        this.#length + offsets[end]! - offsets[slot]! < MAX_BATCH_BYTES
      )
        end++;
      this.#reserve(offsets[end]! - offsets[slot]!, end - slot);
      template.bytes.copy(this.#bytes, this.#length, offsets[slot]!, offsets[end]!);
      for (; slot < end; slot++)
        this.#patch(this.#length + offsets[slot + 1]! - offsets[slot]!, values[slot]!, states[slot]!);
    }
    return slot;
  }

  /** Fills in the message that was copied to the end, and moves the end behind it. */
  #patch(end: number, value: number, state: number): void {
    const at = valueOffset(end);
    if (state === SlotState.Stale) {
      this.#view.setUint32(at, STALE_LOW, true);
      this.#view.setUint32(at + 4, STALE_HIGH, true);
    } else {
      this.#view.setFloat64(at, value, true);
    }
    const bytes = this.#bytes;
    const stamp = this.#timestamp;
    const to = timestampOffset(end);
    for (let i = 0; i < 6; i++) bytes[to + i] = stamp[i]!;
    this.#starts[this.#samples++] = this.#length;
    this.#length = end;
  }

  #reserve(bytes: number, samples: number): void {
    if (this.#length + bytes > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    if (this.#samples + samples > this.#starts.length) {
      const larger = new Uint32Array(Math.max(this.#starts.length * 2, this.#samples + samples));
      larger.set(this.#starts.subarray(0, this.#samples));
      this.#starts = larger;
    }
  }
}

function isWritten(state: number): boolean {
  return state === SlotState.Present || state === SlotState.Stale;
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
