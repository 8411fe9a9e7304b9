import type { Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import {
  layOut,
  SAMPLE_BYTES,
  SAMPLE_HEAD_BYTES,
  type SeriesTemplate,
  TIMESTAMP_BYTES,
  varintLength,
  writeVarint,
} from './series-template.ts';
import { writeCopy, writeLiteral } from './snappy-block.ts';

/*
 * The compressed form of a dictionary's series, made once. Sorted by their labels without the name, neighbours
 * differ in little more than the name, so a series is a few copies out of its predecessor and a literal:
 *
 *   predecessor   0a 5e | 0a 1d 0a 08 __name__ 12 11 gpu_power_watts | 0a .. cluster .. uuid .. | 12 10 09 | V | 10 T
 *   series        lit     lit   copy              lit                  copy ----------------------------->   lit copy
 *
 * A compressor would find the same, at ten times the price, for each tick anew. Copies reach into the predecessor
 * alone: a series whose predecessor is missing (absent in this tick) is written as a literal, and the chain goes
 * on behind it. What is given up: 55 bytes a live sample where snappy needs 26 (measured on the reference trace).
 */

/** Messages up to this length are chained: their copies have two bytes. */
const MAX_CHAINED_BYTES = 2_047;
/** Copies reach 65,535 back: a predecessor with more samples than this is not referred to. */
export const MAX_CHAINED_SAMPLES = 3_400;
/** A copy shorter than this is not worth its two or three bytes. */
const MIN_COPY_BYTES = 4;
/** Numbers of one operation: literal from, literal length, copy length, distance base. */
const OP = 4;
/** Of a live segment: the value ends so far before the segment's end, where the copy of the timestamp is. */
export const VALUE_BEFORE_END = 2 + 8;

export interface SeriesChain extends SeriesTemplate {
  /** Slots in the order in which they are written. */
  readonly order: Uint32Array;
  /** By position: 1 where the series cannot refer to its predecessor. */
  readonly breaks: Uint8Array;
  /** By position: the series with one sample, chained, compressed; empty where it breaks. */
  readonly segments: Buffer;
  readonly segmentOffsets: Uint32Array;
  /** By position: raw bytes of all messages before it, one sample each. */
  readonly rawOffsets: Uint32Array;
  readonly ops: Int32Array;
  /** By position, in ops. */
  readonly opOffsets: Uint32Array;
}

/** Writes the labels (and the head of the first sample) of a chained series; returns the end. */
export function writeChainedLabels(
  chain: Pick<SeriesChain, 'bytes' | 'offsets' | 'headers' | 'order' | 'ops' | 'opOffsets'>,
  position: number,
  previousSamples: number,
  headerBytes: number,
  out: Uint8Array,
  at: number,
): number {
  const { bytes, ops, opOffsets } = chain;
  const slot = chain.order[position]!;
  const labels = chain.offsets[slot]! + chain.headers[slot]!;
  let end = at;
  for (let op = opOffsets[position]!; op < opOffsets[position + 1]!; op += OP) {
    const length = ops[op + 1]!;
    if (length > 0) end = writeLiteral(out, end, bytes, labels + ops[op]!, length);
    if (ops[op + 2]! > 0)
      end = writeCopy(out, end, ops[op + 2]!, ops[op + 3]! + previousSamples * SAMPLE_BYTES + headerBytes);
  }
  return end;
}

/** Bytes of a message's header when it holds so many samples. */
export function headerBytes(labelBytes: number, samples: number): number {
  return 1 + varintLength(labelBytes + samples * SAMPLE_BYTES);
}

/** `included` are the slots to chain; the others come last, each as a literal. All of them where not given. */
export function compileChain(
  template: SeriesTemplate,
  dictionary: Dictionary,
  included?: Uint8Array,
): SeriesChain {
  const order = orderOf(dictionary, included);
  const count = order.length;
  const breaks = new Uint8Array(count);
  const rawOffsets = new Uint32Array(count + 1);
  const opOffsets = new Uint32Array(count + 1);
  const ops: number[] = [];
  for (let position = 0; position < count; position++) {
    const slot = order[position]!;
    const length = messageBytes(template, slot);
    rawOffsets[position + 1] = rawOffsets[position]! + length;
    const before = position === 0 ? undefined : order[position - 1]!;
    if (
      before === undefined ||
      (included && !included[slot]) ||
      Math.max(length, messageBytes(template, before)) > MAX_CHAINED_BYTES
    )
      breaks[position] = 1;
    else compare(template, before, slot, ops);
    opOffsets[position + 1] = ops.length;
  }
  const chain = { ...template, order, breaks, rawOffsets, ops: Int32Array.from(ops), opOffsets };
  return { ...chain, ...liveSegments(chain) };
}

function liveSegments(
  chain: Omit<SeriesChain, 'segments' | 'segmentOffsets'>,
): Pick<SeriesChain, 'segments' | 'segmentOffsets'> {
  const { order, breaks, rawOffsets } = chain;
  const segmentOffsets = new Uint32Array(order.length + 1);
  const out = Buffer.alloc(rawOffsets.at(-1)! + 64 * (order.length + 1));
  let end = 0;
  for (let position = 0; position < order.length; position++) {
    if (!breaks[position]) {
      const slot = order[position]!;
      const header = chain.headers[slot]!;
      end = writeLiteral(out, end, chain.bytes, chain.offsets[slot]!, header);
      end = writeChainedLabels(chain, position, 1, header, out, end);
      out[end] = (8 - 1) << 2;
      end += 9;
      end = writeCopy(out, end, TIMESTAMP_BYTES + 1, messageBytes(chain, slot));
    }
    segmentOffsets[position + 1] = end;
  }
  return { segments: Buffer.from(out.subarray(0, end)), segmentOffsets };
}

/** By every label but the name, then by slot: neighbours are the series of one GPU. */
function orderOf({ series }: Dictionary, included: Uint8Array | undefined): Uint32Array {
  const keys = series.map(({ labels }, slot) => {
    const last = included && !included[slot] ? '1' : '0';
    return `${last}${labels.map(([name, value]) => `${name}\n${value}`).join('\n')}`;
  });
  return Uint32Array.from(keys.keys()).sort((a, b) =>
    keys[a]! < keys[b]! ? -1 : keys[a]! > keys[b]! ? 1 : a - b,
  );
}

function messageBytes({ offsets }: Pick<SeriesTemplate, 'offsets'>, slot: number): number {
  return offsets[slot + 1]! - offsets[slot]!;
}

/** What of a series' labels is in its predecessor's: beginning and end of what is before and behind the name. */
function compare(template: SeriesTemplate, before: number, slot: number, ops: number[]): void {
  const pieces = new Pieces(template, before, slot, ops);
  const [aName, aEnd] = [template.nameFrom[before]!, template.nameTo[before]!];
  const [bName, bEnd] = [template.nameFrom[slot]!, template.nameTo[slot]!];
  pieces.region(0, aName, 0, bName);
  pieces.region(aName, aEnd, bName, bEnd);
  pieces.region(aEnd, pieces.aLength, bEnd, pieces.bLength);
  pieces.finish();
}

class Pieces {
  readonly #a: Buffer;
  readonly #b: Buffer;
  readonly #base: number;
  readonly #ops: number[];
  #literalFrom = 0;
  #literal = 0;
  #copy = 0;
  #distance = 0;

  constructor(template: SeriesTemplate, before: number, slot: number, ops: number[]) {
    this.#a = labelsAndHead(template, before);
    this.#b = labelsAndHead(template, slot);
    this.#base = this.#a.length - SAMPLE_HEAD_BYTES;
    this.#ops = ops;
  }

  get aLength(): number {
    return this.#a.length;
  }

  get bLength(): number {
    return this.#b.length;
  }

  region(aFrom: number, aTo: number, bFrom: number, bTo: number): void {
    const most = Math.min(aTo - aFrom, bTo - bFrom);
    let prefix = 0;
    while (prefix < most && this.#a[aFrom + prefix] === this.#b[bFrom + prefix]) prefix++;
    let suffix = 0;
    while (suffix < most - prefix && this.#a[aTo - 1 - suffix] === this.#b[bTo - 1 - suffix]) suffix++;
    this.#same(aFrom, bFrom, prefix);
    this.#own(bFrom + prefix, bTo - bFrom - prefix - suffix);
    this.#same(aTo - suffix, bTo - suffix, suffix);
  }

  finish(): void {
    if (this.#literal > 0 || this.#copy > 0)
      this.#ops.push(this.#literalFrom, this.#literal, this.#copy, this.#distance);
    this.#literal = this.#copy = 0;
  }

  #same(a: number, b: number, length: number): void {
    if (length === 0) return;
    const distance = this.#base + b - a;
    if (this.#copy > 0 && this.#distance === distance) {
      this.#copy += length;
      return;
    }
    if (length < MIN_COPY_BYTES) {
      this.#own(b, length);
      return;
    }
    if (this.#copy > 0) this.finish();
    this.#copy = length;
    this.#distance = distance;
  }

  #own(b: number, length: number): void {
    if (length === 0) return;
    if (this.#copy > 0) this.finish();
    if (this.#literal === 0) this.#literalFrom = b;
    this.#literal += length;
  }
}

/** Labels and the three bytes of the first sample before its value. */
function labelsAndHead({ bytes, offsets, headers }: SeriesTemplate, slot: number): Buffer {
  return bytes.subarray(
    offsets[slot]! + headers[slot]!,
    offsets[slot + 1]! - SAMPLE_BYTES + SAMPLE_HEAD_BYTES,
  );
}

/** Compiled again when this share of the written series had no predecessor to refer to ... */
const TOLERATED_BREAKS = 1 / 16;
/** ... and not again before so many ticks: compiling costs as much as about twenty ticks. */
const COMPILE_EVERY_TICKS = 256;

/** The chain of one dictionary of one source, fitted to the series that are there. */
export class ChainedSeries {
  readonly source: Source;
  readonly #dictionary: Dictionary;
  #chain: SeriesChain;
  /** The first misfit may be a tick of its own; a series that is not supported is absent for good. */
  #untilCompile = 2;

  constructor(dictionary: Dictionary, source: Source) {
    this.source = source;
    this.#dictionary = dictionary;
    this.#chain = compileChain(layOut(dictionary, source), dictionary);
  }

  get chain(): SeriesChain {
    return this.#chain;
  }

  /** Says how a whole tick went: `isWritten` tells which slots were there. */
  wrote(written: number, literals: number, isWritten: (slot: number) => boolean): void {
    if (this.#untilCompile > 0) this.#untilCompile--;
    if (literals <= 2 || literals <= written * TOLERATED_BREAKS || this.#untilCompile > 0) return;
    this.#untilCompile = COMPILE_EVERY_TICKS;
    const included = Uint8Array.from(this.#dictionary.series, (_, slot) => (isWritten(slot) ? 1 : 0));
    this.#chain = compileChain(this.#chain, this.#dictionary, included);
  }
}

const chains = new WeakMap<Dictionary, ChainedSeries>();

/** The chain of a dictionary for one source, compiled at first use. */
export function chainOf(dictionary: Dictionary, source: Source): ChainedSeries {
  let known = chains.get(dictionary);
  if (known?.source !== source) {
    known = new ChainedSeries(dictionary, source);
    chains.set(dictionary, known);
  }
  return known;
}

/** Writes the header of a message with so many samples; returns the end. */
export function writeHeader(out: Uint8Array, at: number, labelBytes: number, samples: number): number {
  out[at] = 0x0a;
  return writeVarint(out, at + 1, labelBytes + samples * SAMPLE_BYTES);
}
