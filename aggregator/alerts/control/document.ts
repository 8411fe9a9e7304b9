import { FleetError } from '#shared/errors/fleet-error.ts';

/** Largest value of a document, as JSON in UTF-8. A silence has a few hundred bytes, an action a few thousand. */
const MAX_DOCUMENT_BYTES = 64 * 1024;
export const MAX_DOCUMENTS = 100_000;
/** All values together: what one aggregator may have to hold in memory. Own judgement. */
export const MAX_TOTAL_BYTES = 256 * 1024 ** 2;
/** UTF-8 bytes: three times as many characters, escaped, are far from the 4 KiB of a NATS control line. */
const MAX_KEY_BYTES = 512;

/** A value as it is kept: what was read back from JSON, so that nobody holds a part of it that may change. */
export interface Checked {
  readonly value: unknown;
  readonly bytes: number;
}

/** Throws `invalid_input` for a key or value that no store takes. */
export function checkDocument(key: string, value: unknown): Checked {
  checkKey(key);
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw refused(key, 'it has no value that is JSON');
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_DOCUMENT_BYTES)
    throw refused(key, `it has ${bytes} bytes, and ${MAX_DOCUMENT_BYTES} is the most`);
  return { value: JSON.parse(text) as unknown, bytes };
}

/** Of a value that was taken before. */
export function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

export function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes === 0 || bytes > MAX_KEY_BYTES)
    throw new FleetError(
      'invalid_input',
      `Cannot use document key: it must have 1 to ${MAX_KEY_BYTES} bytes, and has ${bytes}`,
    );
}

function refused(key: string, why: string): FleetError {
  return new FleetError('invalid_input', `Cannot write document ${key}: ${why}`);
}
