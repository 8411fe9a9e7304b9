/*
 * Snappy's block format (github.com/google/snappy, format_description.txt): the uncompressed length as a varint,
 * then literals and copies. A copy's distance counts back from where it writes, so a sequence of operations that
 * refers only to itself can be put behind any other.
 */

/** Writes the operation that says "so many bytes follow"; returns where they go. */
export function writeLiteralTag(out: Uint8Array, at: number, length: number): number {
  const rest = length - 1;
  if (rest < 60) {
    out[at] = rest << 2;
    return at + 1;
  }
  if (rest < 2 ** 8) {
    out[at] = 60 << 2;
    out[at + 1] = rest;
    return at + 2;
  }
  out[at + 1] = rest & 0xff;
  out[at + 2] = (rest >>> 8) & 0xff;
  if (rest < 2 ** 16) {
    out[at] = 61 << 2;
    return at + 3;
  }
  out[at] = 62 << 2;
  out[at + 3] = rest >>> 16;
  return at + 4;
}

/** Writes a literal of bytes that lie elsewhere (length at least 1, below 2^24); returns the end. */
export function writeLiteral(
  out: Uint8Array,
  at: number,
  from: Buffer,
  start: number,
  length: number,
): number {
  const to = writeLiteralTag(out, at, length);
  if (length > 64) from.copy(out, to, start, start + length);
  // For a few bytes a loop is cheaper than a call out of JavaScript.
  else for (let i = 0; i < length; i++) out[to + i] = from[start + i]!;
  return to + length;
}

/** Writes copies of `length` bytes from `distance` (1 to 65,535) back; returns the end. */
export function writeCopy(out: Uint8Array, at: number, length: number, distance: number): number {
  let end = at;
  let rest = length;
  while (rest > 0) {
    if (rest >= 4 && rest <= 11 && distance < 2_048) {
      out[end] = ((rest - 4) << 2) | 1 | ((distance >>> 8) << 5);
      out[end + 1] = distance & 0xff;
      return end + 2;
    }
    const part = Math.min(rest, 64);
    out[end] = ((part - 1) << 2) | 2;
    out[end + 1] = distance & 0xff;
    out[end + 2] = distance >>> 8;
    end += 3;
    rest -= part;
  }
  return end;
}
