import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { FrameEncoder } from './frame-encoder.ts';
import { hashBytes, RecordKind, splitTick } from './record.ts';
import { type Cursor, MAX_VARINT_BYTES, readVarint, writeVarint } from './varint.ts';

/*
 * A segment is the body of a record that stands for many: the sequences first, first + 1 ... of one run, where
 * `first` is the record's own. Inside one the ticks of a dictionary are differences, which halves them.
 *
 *   count      varint: the sequences that it covers
 *   table      varint count, then 8 bytes LE for each: hashes of the dictionaries
 *   entries    for each sequence in order:
 *              head    varint: 8 * index into the table + 1 for a tick, the RecordKind for any other record
 *              length  varint
 *              bytes   of a tick its frame: the first of each dictionary is a keyframe, each later one a
 *                      difference from the one before it; of any other record its body as it was
 *
 * What is given up: one flipped byte costs the whole segment, so segments are short.
 */

/** Limits of one segment: what one damaged byte can cost, and what reading one record of it can cost. */
export const MAX_SEGMENT_RECORDS = 64;
export const MAX_SEGMENT_BYTES = 64 * 1024;
/** A segment from elsewhere may be longer than ours, not endless. */
const MAX_READ_RECORDS = 65_536;

/** One record of a segment. A tick's body is its dictionary's hash and its frame, as `splitTick` takes it. */
export interface SegmentEntry {
  readonly kind: RecordKind;
  readonly body: Uint8Array;
}

/** Collects records one by one, transcoding ticks; values stay bit for bit what they were. */
export class SegmentBuilder {
  readonly #dictionaryOf: (hash: bigint) => Dictionary | undefined;
  readonly #table = new Map<bigint, { index: number; decoder: FrameDecoder; encoder: FrameEncoder }>();
  readonly #entries: Uint8Array[] = [];
  #count = 0;
  #bytes = 0;

  constructor(dictionaryOf: (hash: bigint) => Dictionary | undefined) {
    this.#dictionaryOf = dictionaryOf;
  }

  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    return this.#count >= MAX_SEGMENT_RECORDS || this.#bytes >= MAX_SEGMENT_BYTES;
  }

  /** Adds the next sequence. Throws, unchanged, where a tick cannot be decoded: it must stay as it lies. */
  add(kind: RecordKind, body: Uint8Array): void {
    if (kind === RecordKind.Segment)
      throw new FleetError('invalid_input', 'Cannot put a segment in a segment');
    if (kind !== RecordKind.Tick) {
      this.#push(kind, body);
      return;
    }
    const { hash, frame } = splitTick(body);
    let coded = this.#table.get(hash);
    if (!coded) {
      const dictionary = this.#dictionaryOf(hash);
      if (!dictionary) {
        throw new FleetError('data_loss', `Cannot read tick: its dictionary ${hash.toString(16)} is gone`);
      }
      coded = {
        index: this.#table.size,
        decoder: new FrameDecoder(dictionary),
        encoder: new FrameEncoder(dictionary),
      };
    }
    const timestampMs = coded.decoder.decode(frame);
    const { values, states } = coded.decoder;
    const difference = coded.encoder.encode({ timestampMs, values, states });
    this.#table.set(hash, coded);
    this.#push(8 * coded.index + RecordKind.Tick, difference);
  }

  /** The body, for `sealRecord`. */
  finish(): Uint8Array {
    const head = new Uint8Array(2 * MAX_VARINT_BYTES);
    let at = writeVarint(head, 0, this.#count);
    at = writeVarint(head, at, this.#table.size);
    return Buffer.concat([head.subarray(0, at), ...[...this.#table.keys()].map(hashBytes), ...this.#entries]);
  }

  #push(head: number, body: Uint8Array): void {
    const entry = new Uint8Array(2 * MAX_VARINT_BYTES + body.length);
    let at = writeVarint(entry, 0, head);
    at = writeVarint(entry, at, body.length);
    entry.set(body, at);
    this.#entries.push(entry.subarray(0, at + body.length));
    this.#bytes += at + body.length;
    this.#count++;
  }
}

/** How many sequences a segment covers, without reading the rest. Throws `invalid_input`. */
export function segmentLength(body: Uint8Array): number {
  const count = readVarint({ bytes: body, at: 0 });
  if (count < 1 || count > MAX_READ_RECORDS) throw fault(`it covers ${count} records`);
  return count;
}

/** The records as they are coded. Throws `invalid_input` where the bytes do not add up. */
export function openSegment(body: Uint8Array): SegmentEntry[] {
  const cursor: Cursor = { bytes: body, at: 0 };
  const count = readVarint(cursor);
  if (count < 1 || count > MAX_READ_RECORDS) throw fault(`it covers ${count} records`);
  const table = readVarint(cursor);
  const hashes = cursor.at;
  cursor.at += 8 * table;
  if (table > count || cursor.at > body.length) throw fault(`its table of ${table} dictionaries is cut`);
  const entries: SegmentEntry[] = [];
  for (let i = 0; i < count; i++) {
    const head = readVarint(cursor);
    const length = readVarint(cursor);
    const from = cursor.at;
    cursor.at += length;
    if (cursor.at > body.length) throw fault(`record ${i} is cut`);
    const bytes = body.subarray(from, cursor.at);
    if ((head & 7) === RecordKind.Tick) {
      const index = (head - RecordKind.Tick) / 8;
      if (index >= table) throw fault(`record ${i} names dictionary ${index} of ${table}`);
      const hash = body.subarray(hashes + 8 * index, hashes + 8 * index + 8);
      entries.push({ kind: RecordKind.Tick, body: Buffer.concat([hash, bytes]) });
    } else if (head === RecordKind.Event || head === RecordKind.Dictionary || head === RecordKind.Loss) {
      entries.push({ kind: head, body: bytes });
    } else {
      throw fault(`record ${i} has the unknown kind ${head}`);
    }
  }
  if (cursor.at !== body.length) throw fault(`${body.length - cursor.at} bytes are left over`);
  return entries;
}

/**
 * The records from the one at `skip` on. Where that is not the first, ticks are coded anew, so that the first of
 * each dictionary is a keyframe again; one whose dictionary is not known stays as it is. Throws where a tick before
 * or behind it cannot be decoded.
 */
export function openSegmentFrom(
  body: Uint8Array,
  skip: number,
  dictionaryOf: (hash: bigint) => Dictionary | undefined,
): SegmentEntry[] {
  const entries = openSegment(body);
  if (skip === 0) return entries;
  const coders = new Map<bigint, { decoder: FrameDecoder; encoder: FrameEncoder }>();
  const recoded = entries.map(({ kind, body: entry }, i) => {
    if (kind !== RecordKind.Tick) return { kind, body: entry };
    const { hash, frame } = splitTick(entry);
    let coder = coders.get(hash);
    if (!coder) {
      const dictionary = dictionaryOf(hash);
      // Nobody can read it, from whatever beginning.
      if (!dictionary) return { kind, body: entry };
      coder = { decoder: new FrameDecoder(dictionary), encoder: new FrameEncoder(dictionary) };
      coders.set(hash, coder);
    }
    const timestampMs = coder.decoder.decode(frame);
    if (i < skip) return { kind, body: entry };
    const { values, states } = coder.decoder;
    return {
      kind,
      body: Buffer.concat([hashBytes(hash), coder.encoder.encode({ timestampMs, values, states })]),
    };
  });
  return recoded.slice(skip);
}

function fault(what: string): FleetError {
  return new FleetError('invalid_input', `Cannot read segment: ${what}`);
}
