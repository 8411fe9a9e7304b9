import { toToken } from '../bus/subject.ts';

/**
 * A document's key as a key of a NATS KV bucket: its parts as tokens (see toToken), joined by dots. KV keys have no
 * `%` and no `~`, so these are `=` and `/`, which stand for nothing else. A long part is cut, so the key is not read
 * back from here: the document carries it.
 */
export function toKvKey(key: string): string {
  return key
    .split('/')
    .map((part) => toToken(part).replaceAll('%', '=').replaceAll('~', '/'))
    .join('.');
}

/** A document as it lies in the bucket: JSON, with its key. */
export function encodeDocument(key: string, value: unknown): string {
  return JSON.stringify({ key, value });
}

/** Undefined where somebody else wrote it: no JSON, no key, or the key of another place. */
export function decodeDocument(
  kvKey: string,
  bytes: Uint8Array,
): { key: string; value: unknown } | undefined {
  if (bytes.length > MAX_BYTES) return undefined;
  try {
    const read = JSON.parse(new TextDecoder().decode(bytes)) as { key?: unknown; value?: unknown } | null;
    if (typeof read?.key !== 'string' || read.value === undefined || toKvKey(read.key) !== kvKey)
      return undefined;
    return { key: read.key, value: read.value };
  } catch {
    return undefined;
  }
}

/** Room for the largest document and its key, escaped; the bucket takes no more, see control-bucket.ts. */
export const MAX_BYTES = 72 * 1024;
