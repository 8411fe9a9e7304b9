import { type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { type StreamRequest, StreamRequestSchema } from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Cursor } from '#shared/wire/varint.ts';

/** A message of this size costs less than 10 MiB whatever is in it: it is decoded without a look. */
const ALWAYS_DECODED_BYTES = 64 * 1024;
/**
 * Memory that one decoded message may take. A dictionary of 100,000 series with six labels each is 40 MiB; 4 MiB of
 * empty series, two bytes each, would be 340 MiB and three seconds in which no other stream is served (measured).
 */
export const MAX_MESSAGE_COST = 64 * 2 ** 20;

/** What an element costs decoded, bytes, measured on Node 24 and protobuf-es 2.17: rounded up. */
const MESSAGE_COST = 160;
const BYTES_COST = 120;
const STRING_COST = 32;
const NUMBER_COST = 16;

/**
 * A message from the network. Throws `invalid_input` for what is no message and `resource_exhausted` for one that
 * would cost more than MAX_MESSAGE_COST, before it does. Unknown fields, a later version's, are not kept: they would
 * be the cheapest way to fill our memory.
 */
export function decodeRequest(bytes: Uint8Array): StreamRequest {
  const tick = decodeTick(bytes);
  if (tick) return tick;
  try {
    if (bytes.length > ALWAYS_DECODED_BYTES) charge(bytes, StreamRequestSchema, { left: MAX_MESSAGE_COST });
    return fromBinary(StreamRequestSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError('invalid_input', `Cannot read message: ${describeError(error)}`, { cause: error });
  }
}

/** Field number and wire type of each field of a tick on its way, as its first byte. */
const RECORD = (2 << 3) | WireType.LengthDelimited;
const RUN = (1 << 3) | WireType.Varint;
const SEQUENCE = (2 << 3) | WireType.Varint;
const LANE = (3 << 3) | WireType.Varint;
const TICK = (4 << 3) | WireType.LengthDelimited;
const DICTIONARY = (1 << 3) | WireType.Varint;
const FRAME = (2 << 3) | WireType.LengthDelimited;

/**
 * A record with one tick, which nearly every message is, read by hand: generic reflection costs more than decoding
 * the frame inside. Undefined for anything else, and for a tick that is written in another way than ours (fields
 * in another order, twice, or unknown): the generic reader is there for those. `frame` is a view of `bytes`.
 */
function decodeTick(bytes: Uint8Array): StreamRequest | undefined {
  const cursor: Cursor = { bytes, at: 0 };
  if (bytes[0] !== RECORD) return undefined;
  cursor.at = 1;
  if (varint(cursor) !== bytes.length - cursor.at) return undefined;
  const run = optional(cursor, RUN);
  const sequence = optional(cursor, SEQUENCE);
  const lane = optional(cursor, LANE);
  if (bytes[cursor.at++] !== TICK || varint(cursor) !== bytes.length - cursor.at) return undefined;
  const dictionary = optional(cursor, DICTIONARY);
  if (bytes[cursor.at++] !== FRAME || varint(cursor) !== bytes.length - cursor.at) return undefined;
  if (!(run <= MAX_UINT32 && sequence <= Number.MAX_SAFE_INTEGER && lane <= 2 && dictionary <= MAX_UINT32))
    return undefined;
  const frame = bytes.subarray(cursor.at);
  const value = {
    run,
    sequence: BigInt(sequence),
    lane,
    body: { case: 'tick', value: { dictionary, frame } },
  };
  return { message: { case: 'record', value } } as unknown as StreamRequest;
}

const MAX_UINT32 = 0xffffffff;

/** The value of a field where it comes next, 0 where it does not: so absent ones are written. */
function optional(cursor: Cursor, tag: number): number {
  if (cursor.bytes[cursor.at] !== tag) return 0;
  cursor.at++;
  return varint(cursor);
}

/** NaN past the end, which is equal to nothing and below nothing. */
function varint(cursor: Cursor): number {
  let value = 0;
  let scale = 1;
  for (let length = 0; length < 8; length++) {
    const byte = cursor.bytes[cursor.at++];
    if (byte === undefined) return Number.NaN;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  return Number.NaN;
}

/** Takes what the fields of a message cost from the budget, without making anything of them. */
function charge(bytes: Uint8Array, schema: DescMessage, budget: { left: number }): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = fieldsOf(schema).get(number);
    if (field === undefined || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, number);
      if (field !== undefined) spend(budget, NUMBER_COST);
      continue;
    }
    const content = reader.bytes();
    if (field === 'entry') spend(budget, MESSAGE_COST + content.length);
    else if (field === 'bytes') spend(budget, BYTES_COST);
    else if (field === 'string') spend(budget, STRING_COST + content.length);
    else if (field === 'number') spend(budget, content.length * NUMBER_COST);
    else {
      spend(budget, MESSAGE_COST);
      charge(content, field, budget);
    }
  }
}

function spend(budget: { left: number }, cost: number): void {
  budget.left -= cost;
  if (budget.left < 0)
    throw new FleetError(
      'resource_exhausted',
      `Cannot read message: it would take more than ${MAX_MESSAGE_COST / 2 ** 20} MiB of memory`,
    );
}

type FieldKind = 'entry' | 'bytes' | 'string' | 'number' | DescMessage;

const known = new WeakMap<DescMessage, ReadonlyMap<number, FieldKind>>();

function fieldsOf(schema: DescMessage): ReadonlyMap<number, FieldKind> {
  let fields = known.get(schema);
  if (!fields) {
    fields = new Map(
      schema.fields.map((field): [number, FieldKind] => {
        if (field.fieldKind === 'map') return [field.number, 'entry'];
        if (field.message) return [field.number, field.message];
        if (field.scalar === ScalarType.BYTES) return [field.number, 'bytes'];
        return [field.number, field.scalar === ScalarType.STRING ? 'string' : 'number'];
      }),
    );
    known.set(schema, fields);
  }
  return fields;
}
