import type { Block, BlockSpan } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import {
  chainOf,
  headerBytes,
  MAX_CHAINED_SAMPLES,
  type SeriesChain,
  VALUE_BEFORE_END,
  writeChainedLabels,
  writeHeader,
} from './series-chain.ts';
import {
  SAMPLE_BYTES,
  SAMPLE_HEAD_BYTES,
  TIMESTAMP_BYTES,
  varintLength,
  writeTimestamp,
  writeVarint,
} from './series-template.ts';
import { writeLiteral, writeLiteralTag } from './snappy-block.ts';

/** One request holds at most this many samples and raw bytes: far below VictoriaMetrics' 32 MiB. */
export const MAX_BATCH_SAMPLES = 10_000;
/** Of backlog, for which nobody waits: a request costs us as much as 2,500 of its samples (benchmark catchup). */
export const MAX_SPAN_BATCH_SAMPLES = 40_000;
export const MAX_BATCH_BYTES = 4 * 2 ** 20;

const FIRST_BYTES = 256 * 1024;
/** Room for the varint of the raw length, which is known last: 4 MiB and one message have four bytes at most. */
const LENGTH_BYTES = 4;
/** Prometheus' stale marker: the NaN with this payload and no other (little endian: low word first). */
const STALE_LOW = 0x00000002;
const STALE_HIGH = 0x7ff00000;
/** Most bytes that the operations of a sample add to it, and those of a message's labels. */
const OPS_PER_SAMPLE = 4;
const OPS_PER_MESSAGE = 96;

/** How far a span has been written: batches follow each other. */
export class SpanCursor {
  readonly span: BlockSpan;
  readonly chain: SeriesChain;
  /** The timestamps as they are written, six bytes each. */
  readonly stamps: Uint8Array;
  position = 0;
  /** Of the series at `position`: the first row that is not written yet. */
  tick = 0;

  constructor(span: BlockSpan) {
    this.span = span;
    this.chain = chainOf(span.dictionary, span.source).chain;
    this.stamps = new Uint8Array(span.ticks * TIMESTAMP_BYTES);
    for (let t = 0; t < span.ticks; t++)
      writeTimestamp(this.stamps, t * TIMESTAMP_BYTES, span.timestamps[t]!);
  }

  get done(): boolean {
    return this.position >= this.chain.order.length;
  }
}

/**
 * A remote write request under construction, compressed as it grows: labels come from the dictionary's chain, so
 * there is no compressor in the way of a live sample. A request that the store refuses is decompressed again.
 */
export class WriteBatch {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #view = viewOf(this.#bytes);
  #end = LENGTH_BYTES;
  #rawBytes = 0;
  #samples = 0;
  #maxSamples = MAX_BATCH_SAMPLES;
  readonly #stamp = new Uint8Array(TIMESTAMP_BYTES);
  /** Rows of the series of a span that is being written, and of the one before it. */
  #ticks = new Uint32Array(64);
  #ticksBefore = new Uint32Array(64);

  /** Samples, stale markers included. */
  get samples(): number {
    return this.#samples;
  }

  /** Compressed. */
  get byteLength(): number {
    return this.#end - LENGTH_BYTES;
  }

  get isFull(): boolean {
    return this.#samples >= this.#maxSamples || this.#rawBytes >= MAX_BATCH_BYTES;
  }

  /** The request as it is sent, a snappy block; valid until the next append. */
  get body(): Buffer {
    const from = LENGTH_BYTES - varintLength(this.#rawBytes);
    writeVarint(this.#bytes, from, this.#rawBytes);
    return this.#bytes.subarray(from, this.#end);
  }

  /** Empties it for a request of at most so many samples. */
  clear(maxSamples = MAX_BATCH_SAMPLES): void {
    this.#end = LENGTH_BYTES;
    this.#rawBytes = 0;
    this.#samples = 0;
    this.#maxSamples = maxSamples;
  }

  /** Adds the block's samples from a position on, until the batch is full; returns the position to go on with. */
  append(block: Block, from: number): number {
    const { dictionary, states, source } = block;
    const series = chainOf(dictionary, source);
    const { chain } = series;
    const { order } = chain;
    writeTimestamp(this.#stamp, 0, block.timestampMs);
    const before = this.#samples;
    let literals = 0;
    let position = from;
    while (position < order.length && !this.isFull) {
      if (!isWritten(states[order[position]!]!)) {
        position++;
        continue;
      }
      literals++;
      const end = this.#runEnd(chain, states, position);
      this.#liveLiteral(chain, position, block);
      this.#liveRun(chain, position + 1, end, block);
      position = end;
    }
    if (from === 0 && position === order.length)
      series.wrote(this.#samples - before, literals, (slot) => isWritten(states[slot]!));
    return position;
  }

  /** Adds samples of the span from where its cursor stands, until the batch is full or the cursor is done. */
  appendSpan(cursor: SpanCursor): void {
    const { span, chain } = cursor;
    let samplesBefore = 0;
    while (!cursor.done && !this.isFull) {
      const { position } = cursor;
      const slot = chain.order[position]!;
      const labels = labelBytesOf(chain, slot);
      const room = Math.min(
        this.#maxSamples - this.#samples,
        Math.max(1, Math.floor((MAX_BATCH_BYTES - this.#rawBytes - labels) / SAMPLE_BYTES)),
      );
      const [samples, next] = this.#gather(span, slot, cursor.tick, room);
      if (samples > 0) {
        const sameTicks = samples === samplesBefore && this.#sameTicks(samples);
        this.#spanSeries(cursor, labels, samples, samplesBefore, sameTicks);
        [this.#ticks, this.#ticksBefore] = [this.#ticksBefore, this.#ticks];
      }
      // Whoever comes next can refer to this series only where it is written whole or not at all here.
      samplesBefore = samples;
      if (next < span.ticks) {
        cursor.tick = next;
        return;
      }
      cursor.position++;
      cursor.tick = 0;
    }
  }

  /** Where a run of written series that can refer to each other ends, or the batch is full. */
  #runEnd(chain: SeriesChain, states: Uint8Array, from: number): number {
    const { order, breaks, rawOffsets } = chain;
    const most = Math.min(order.length, from + this.#maxSamples - this.#samples);
    const rawLimit = rawOffsets[from]! + MAX_BATCH_BYTES - this.#rawBytes;
    let end = from + 1;
    while (end < most && !breaks[end] && isWritten(states[order[end]!]!) && rawOffsets[end]! < rawLimit)
      end++;
    return end;
  }

  /** A series in full: it begins a run. */
  #liveLiteral(chain: SeriesChain, position: number, { values, states }: Block): void {
    const slot = chain.order[position]!;
    const from = chain.offsets[slot]!;
    const length = chain.offsets[slot + 1]! - from;
    this.#reserve(length + OPS_PER_SAMPLE);
    const end = writeLiteral(this.#bytes, this.#end, chain.bytes, from, length);
    this.#value(end - TIMESTAMP_BYTES - 1 - 8, values[slot]!, states[slot]!);
    this.#bytes.set(this.#stamp, end - TIMESTAMP_BYTES);
    this.#end = end;
    this.#rawBytes += length;
    this.#samples++;
  }

  /** Series that refer to the one before them: one copy of what is compressed already, and their values. */
  #liveRun(chain: SeriesChain, from: number, to: number, { values, states }: Block): void {
    if (to <= from) return;
    const { order, segments, segmentOffsets, rawOffsets } = chain;
    const start = segmentOffsets[from]!;
    const length = segmentOffsets[to]! - start;
    this.#reserve(length);
    segments.copy(this.#bytes, this.#end, start, start + length);
    const shift = this.#end - start - VALUE_BEFORE_END;
    for (let position = from; position < to; position++) {
      const slot = order[position]!;
      this.#value(segmentOffsets[position + 1]! + shift, values[slot]!, states[slot]!);
    }
    this.#end += length;
    this.#rawBytes += rawOffsets[to]! - rawOffsets[from]!;
    this.#samples += to - from;
  }

  /** Rows from `tick` on in which the slot is written, at most `room` of them; and the row to go on with. */
  #gather(
    span: BlockSpan,
    slot: number,
    tick: number,
    room: number,
  ): readonly [samples: number, next: number] {
    const { states, ticks } = span;
    const slots = span.dictionary.series.length;
    if (this.#ticks.length < Math.min(ticks, room)) this.#ticks = new Uint32Array(Math.min(ticks, room));
    const found = this.#ticks;
    let samples = 0;
    let t = tick;
    for (let cell = t * slots + slot; t < ticks && samples < room; t++, cell += slots)
      if (isWritten(states[cell]!)) found[samples++] = t;
    return [samples, t];
  }

  #sameTicks(samples: number): boolean {
    for (let i = 0; i < samples; i++) if (this.#ticks[i] !== this.#ticksBefore[i]) return false;
    return true;
  }

  #spanSeries(
    { span, chain, position, stamps }: SpanCursor,
    labels: number,
    samples: number,
    samplesBefore: number,
    sameTicks: boolean,
  ): void {
    const slot = chain.order[position]!;
    const header = headerBytes(labels, samples);
    const raw = header + labels + samples * SAMPLE_BYTES;
    this.#reserve(raw + OPS_PER_MESSAGE + samples * OPS_PER_SAMPLE + 5 * (labels >>> 3));
    const chained = samplesBefore > 0 && samplesBefore <= MAX_CHAINED_SAMPLES && !chain.breaks[position];
    const out = this.#bytes;
    const labelsFrom = chain.offsets[slot]! + chain.headers[slot]!;
    const own = chained ? header : header + labels + SAMPLE_HEAD_BYTES;
    let end = writeHeader(out, writeLiteralTag(out, this.#end, own), labels, samples);
    if (chained) end = writeChainedLabels(chain, position, samplesBefore, header, out, end);
    else end += chain.bytes.copy(out, end, labelsFrom, labelsFrom + labels + SAMPLE_HEAD_BYTES);
    this.#end = end;
    if (chained && sameTicks) this.#spanValues(span, slot, samples, raw);
    else this.#spanSamples(span, slot, samples, stamps);
    this.#rawBytes += raw;
    this.#samples += samples;
  }

  /** Values behind each other; what is between them is `distance` back, in the series before this one. */
  #spanValues(
    { values, states, dictionary }: BlockSpan,
    slot: number,
    samples: number,
    distance: number,
  ): void {
    const slots = dictionary.series.length;
    const out = this.#bytes;
    const near = distance < 2_048;
    let end = this.#end;
    let last = Number.NaN;
    for (let i = 0; i < samples; i++) {
      const cell = this.#ticks[i]! * slots + slot;
      const value = values[cell]!;
      const state = states[cell]!;
      if (value === last && state !== SlotState.Stale && (value !== 0 || 1 / value === 1 / last)) {
        // A copy of 8 bytes from 18 back: the value of the sample before.
        out[end] = 0x11;
        out[end + 1] = SAMPLE_BYTES;
        end += 2;
      } else {
        out[end] = (8 - 1) << 2;
        this.#value(end + 1, value, state);
        end += 9;
        last = state === SlotState.Stale ? Number.NaN : value;
      }
      // "10 T6", and before another value "12 10 09".
      const length = i < samples - 1 ? TIMESTAMP_BYTES + 1 + SAMPLE_HEAD_BYTES : TIMESTAMP_BYTES + 1;
      out[end] = near ? ((length - 4) << 2) | 1 | ((distance >>> 8) << 5) : ((length - 1) << 2) | 2;
      out[end + 1] = distance & 0xff;
      if (!near) out[end + 2] = distance >>> 8;
      end += near ? 2 : 3;
    }
    this.#end = end;
  }

  /** Samples as one literal; the head of the first is written. */
  #spanSamples(
    { values, states, dictionary }: BlockSpan,
    slot: number,
    samples: number,
    stamps: Uint8Array,
  ): void {
    const slots = dictionary.series.length;
    const out = this.#bytes;
    let end = writeLiteralTag(out, this.#end, samples * SAMPLE_BYTES - SAMPLE_HEAD_BYTES);
    for (let i = 0; i < samples; i++) {
      if (i > 0) {
        out[end] = 0x12;
        out[end + 1] = SAMPLE_BYTES - 2;
        out[end + 2] = 0x09;
        end += SAMPLE_HEAD_BYTES;
      }
      const tick = this.#ticks[i]!;
      this.#value(end, values[tick * slots + slot]!, states[tick * slots + slot]!);
      out[end + 8] = 0x10;
      end += 9;
      const stamp = tick * TIMESTAMP_BYTES;
      for (let b = 0; b < TIMESTAMP_BYTES; b++) out[end + b] = stamps[stamp + b]!;
      end += TIMESTAMP_BYTES;
    }
    this.#end = end;
  }

  #value(at: number, value: number, state: number): void {
    if (state === SlotState.Stale) {
      this.#view.setUint32(at, STALE_LOW, true);
      this.#view.setUint32(at + 4, STALE_HIGH, true);
    } else {
      this.#view.setFloat64(at, value, true);
    }
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#end + bytes));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
    this.#view = viewOf(larger);
  }
}

function labelBytesOf({ offsets, headers }: SeriesChain, slot: number): number {
  return offsets[slot + 1]! - offsets[slot]! - headers[slot]! - SAMPLE_BYTES;
}

/** A slot in this state is a sample for the store: a value, or the marker of an ended series. */
export function isWritten(state: number): boolean {
  return state === SlotState.Present || state === SlotState.Stale;
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
