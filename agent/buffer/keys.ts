/*
 * Keys of the buffer's LevelDB, ordered by bytes:
 *
 *   d <hash, 8 bytes BE>                     a dictionary: the second copy, so that one lost record costs no other
 *   k <name, UTF-8>                          small facts that outlive a run (the last Xid of each GPU)
 *   r <run counter, 4 bytes BE> <sequence, 6 bytes BE>     a record, or a segment of records that begins there
 *   u <run counter, 4 bytes BE>              a run: JSON of StoredRun
 *
 * Big-endian numbers make LevelDB's order the order of time.
 */
const DICTIONARY = 0x64;
const FACT = 0x6b;
const RECORD = 0x72;
const RUN = 0x75;

/** 2^48 sequences at 1,000 records a second last 8,900 years. */
const MAX_SEQUENCE = 2 ** 48 - 1;

export function recordKey(run: number, sequence: number): Buffer {
  const key = Buffer.allocUnsafe(11);
  key[0] = RECORD;
  key.writeUInt32BE(run, 1);
  key.writeUIntBE(Math.min(sequence, MAX_SEQUENCE), 5, 6);
  return key;
}

/** A repaired database may hold keys of any shape. */
export function isRecordKey(key: Uint8Array): boolean {
  return key.length === 11 && key[0] === RECORD;
}

export function parseRecordKey(key: Uint8Array): { run: number; sequence: number } {
  const buffer = Buffer.from(key.buffer, key.byteOffset, key.length);
  return { run: buffer.readUInt32BE(1), sequence: buffer.readUIntBE(5, 6) };
}

export function runKey(run: number): Buffer {
  const key = Buffer.allocUnsafe(5);
  key[0] = RUN;
  key.writeUInt32BE(run, 1);
  return key;
}

/** The key is of a run with a lower counter. */
export function isRunBefore(key: Buffer, counter: number): boolean {
  return key.length === 5 && key[0] === RUN && key.readUInt32BE(1) < counter;
}

export const DICTIONARY_KEY_BYTES = 9;

export function parseDictionaryKey(key: Uint8Array): bigint {
  return Buffer.from(key.buffer, key.byteOffset, key.length).readBigUInt64BE(1);
}

export function dictionaryKey(hash: bigint): Buffer {
  const key = Buffer.allocUnsafe(DICTIONARY_KEY_BYTES);
  key[0] = DICTIONARY;
  key.writeBigUInt64BE(hash, 1);
  return key;
}

export function factKey(name: string): Buffer {
  return Buffer.concat([Buffer.of(FACT), Buffer.from(name)]);
}

export function parseFactKey(key: Uint8Array): string {
  return Buffer.from(key.subarray(1)).toString();
}

/** Bounds of one kind of key, for iterators: from `gte` up to `lt`. */
export const ALL_RUNS = { gte: Buffer.of(RUN), lt: Buffer.of(RUN + 1) };
export const ALL_RECORDS = { gte: Buffer.of(RECORD), lt: Buffer.of(RECORD + 1) };
export const ALL_DICTIONARIES = { gte: Buffer.of(DICTIONARY), lt: Buffer.of(DICTIONARY + 1) };
export const ALL_FACTS = { gte: Buffer.of(FACT), lt: Buffer.of(FACT + 1) };
