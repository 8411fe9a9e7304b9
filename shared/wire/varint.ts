import { FleetError } from '#shared/errors/fleet-error.ts';

/**
 * Unsigned LEB128 over numbers up to 2^53: no BigInt, no Long. Below 2^28 (nearly every delta) it is int32
 * shifts; above, divisions, which float64 does exactly here.
 */
export const MAX_VARINT_BYTES = 8;

/** Writes `value` (an integer, 0 to 2^53) at `at`; returns the offset after it. The caller has room for 8 bytes. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  if (value < 0x10000000) {
    let rest = value | 0;
    while (rest > 0x7f) {
      out[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    out[at++] = rest;
    return at;
  }
  let rest = value;
  while (rest > 0x7f) {
    out[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  out[at++] = rest;
  return at;
}

/** Where a reader stands. One for each decoder, reused: reading a number allocates nothing. */
export interface Cursor {
  bytes: Uint8Array;
  at: number;
}

/** Reads one number. Throws `invalid_input` past the end or for more than 53 bits. */
export function readVarint(cursor: Cursor): number {
  const { bytes } = cursor;
  let at = cursor.at;
  let byte = bytes[at++];
  if (byte === undefined) throw truncated(at - 1);
  if (byte < 0x80) {
    cursor.at = at;
    return byte;
  }
  let value = byte & 0x7f;
  let scale = 128;
  for (let length = 2; length <= MAX_VARINT_BYTES; length++) {
    byte = bytes[at++];
    if (byte === undefined) throw truncated(at - 1);
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      if (value > Number.MAX_SAFE_INTEGER) break;
      cursor.at = at;
      return value;
    }
    scale *= 128;
  }
  throw new FleetError('invalid_input', `Cannot read number at byte ${cursor.at}: it has more than 53 bits`);
}

/** 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4: small deltas of either sign become small numbers. |value| < 2^52. */
export function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

function truncated(at: number): FleetError {
  return new FleetError('invalid_input', `Cannot read number at byte ${at}: the data ends there`);
}
