import { Fuzz } from './fuzz.ts';

export interface DamagedInput {
  /** What was done, so that a failure can be told: `cut after 1024 bytes`, `bit 3 of byte 17 flipped`. */
  readonly what: string;
  readonly bytes: Buffer;
}

export const TRUNCATIONS = 20;
export const MUTATIONS = 200;

/** Long enough for a whole XML element or a CSV cell to go. */
const LONGEST_SPAN = 64;
const NEWLINE = 0x0a;

/**
 * What a capture can turn into on its way: cut at TRUNCATIONS even places (the empty input among them), then
 * MUTATIONS times hurt by one seeded edit. The same bytes and seed give the same inputs; each is a copy, and
 * different from the input wherever that has two bytes that differ.
 */
export function* damagedInputs(bytes: Buffer, seed: number): Generator<DamagedInput> {
  for (let i = 0; i < TRUNCATIONS; i++) {
    const end = Math.floor((bytes.length * i) / TRUNCATIONS);
    yield { what: `cut after ${end} bytes`, bytes: Buffer.from(bytes.subarray(0, end)) };
  }
  const fuzz = new Fuzz(seed);
  const lines = linesOf(bytes);
  for (let i = 0; i < MUTATIONS; i++) yield mutated(bytes, lines, fuzz);
}

const EDITS = [flipBit, replaceByte, deleteSpan, doubleSpan, swapLines];

/** An edit may find nothing to do (equal lines, equal bytes): then another is tried, and last an insertion. */
function mutated(bytes: Buffer, lines: readonly Buffer[], fuzz: Fuzz): DamagedInput {
  for (let attempt = 0; attempt < 8; attempt++) {
    const edited = fuzz.pick(EDITS)(bytes, lines, fuzz);
    if (edited && !edited.bytes.equals(bytes)) return edited;
  }
  return { what: 'a byte added', bytes: Buffer.concat([bytes, Buffer.of(fuzz.below(256))]) };
}

type Edit = (bytes: Buffer, lines: readonly Buffer[], fuzz: Fuzz) => DamagedInput | undefined;

function flipBit(...[bytes, , fuzz]: Parameters<Edit>): DamagedInput | undefined {
  if (bytes.length === 0) return undefined;
  const at = fuzz.below(bytes.length);
  const bit = fuzz.below(8);
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1 << bit;
  return { what: `bit ${bit} of byte ${at} flipped`, bytes: copy };
}

function replaceByte(...[bytes, , fuzz]: Parameters<Edit>): DamagedInput | undefined {
  if (bytes.length === 0) return undefined;
  const at = fuzz.below(bytes.length);
  const byte = fuzz.below(256);
  const copy = Buffer.from(bytes);
  copy[at] = byte;
  return { what: `byte ${at} replaced by ${byte}`, bytes: copy };
}

function deleteSpan(...[bytes, , fuzz]: Parameters<Edit>): DamagedInput | undefined {
  const { at, end } = spanOf(bytes, fuzz);
  const rest = Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
  return { what: `bytes ${at} to ${end} deleted`, bytes: rest };
}

function doubleSpan(...[bytes, , fuzz]: Parameters<Edit>): DamagedInput | undefined {
  const { at, end } = spanOf(bytes, fuzz);
  const doubled = Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
  return { what: `bytes ${at} to ${end} doubled`, bytes: doubled };
}

function swapLines(...[, lines, fuzz]: Parameters<Edit>): DamagedInput | undefined {
  if (lines.length < 2) return undefined;
  const one = fuzz.below(lines.length);
  const other = fuzz.below(lines.length);
  const swapped = [...lines];
  [swapped[one], swapped[other]] = [lines[other]!, lines[one]!];
  return { what: `lines ${one} and ${other} (from 0) swapped`, bytes: Buffer.concat(swapped) };
}

function spanOf(bytes: Buffer, fuzz: Fuzz): { at: number; end: number } {
  const at = fuzz.below(bytes.length);
  return { at, end: Math.min(bytes.length, at + 1 + fuzz.below(LONGEST_SPAN)) };
}

/** Each with its newline. */
function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    lines.push(bytes.subarray(at, end));
    at = end;
  }
  return lines;
}
