import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { uncompressSync } from 'snappy';
import { crc32c } from '#shared/wire/crc32c.ts';
import { type Cursor, readVarint } from '#shared/wire/varint.ts';

/*
 * A table of LevelDB (its doc/table_format.md), read without LevelDB:
 *
 *   blocks     each: contents, 1 byte type (0 plain, 1 snappy), 4 bytes masked CRC-32C of both
 *   footer     48 bytes: where metaindex and index are (two varints each), padding, 8 bytes magic
 *
 * The index is a block whose values say where the data blocks are; the metaindex says where the filter is.
 * LevelDB itself does not look at the checksums when it reads, and ends the whole process by an assertion when a
 * compaction meets keys that a flipped byte has put out of order (seen). So a folder that was not closed in order
 * is checked here before LevelDB sees it.
 */
const FOOTER_BYTES = 48;
const TRAILER_BYTES = 5;
const MAGIC = Buffer.from('57fb808b247547db', 'hex');
const SNAPPY = 1;
const VALUE = 1;

export const isTable = (name: string): boolean => /^\d+\.(ldb|sst)$/.test(name);

interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** Names of the tables that do not pass their checksums; with `ends` only whether each has its end. */
export async function damagedTables(path: string, look: 'all' | 'ends'): Promise<string[]> {
  const damaged: string[] = [];
  for (const name of (await readdir(path).catch((): string[] => [])).filter(isTable)) {
    const bytes = await readFile(join(path, name));
    if (!hasEnd(bytes) || (look === 'all' && !isWhole(bytes))) damaged.push(name);
  }
  return damaged;
}

/** Every key and value that lies in a block which passes its checksum; deleted keys are left out. */
export function readTable(bytes: Buffer): [key: Buffer, value: Buffer][] {
  if (!hasEnd(bytes)) return [];
  const entries: [Buffer, Buffer][] = [];
  for (const handle of dataBlocks(bytes)) {
    const block = handle && readBlock(bytes, handle);
    if (!block) continue;
    for (const [key, value] of readEntries(block)) {
      // Behind the key: 7 bytes of LevelDB's own sequence, and above them in the number the type, lowest byte.
      if (key.length > 8 && key[key.length - 8] === VALUE) entries.push([key.subarray(0, -8), value]);
    }
  }
  return entries;
}

const hasEnd = (bytes: Buffer): boolean => bytes.length >= FOOTER_BYTES && bytes.subarray(-8).equals(MAGIC);

function isWhole(bytes: Buffer): boolean {
  const meta = readBlock(bytes, footer(bytes).meta);
  if (!meta) return false;
  const filters = readEntries(meta).map(([, value]) => readHandle({ bytes: value, at: 0 }));
  return [...filters, ...dataBlocks(bytes)].every((handle) => handle && isSound(bytes, handle));
}

/** Where the data is; one undefined entry where the index itself is damaged. */
function dataBlocks(bytes: Buffer): (Handle | undefined)[] {
  const index = readBlock(bytes, footer(bytes).index);
  return index ? readEntries(index).map(([, value]) => readHandle({ bytes: value, at: 0 })) : [undefined];
}

function footer(bytes: Buffer): { meta: Handle | undefined; index: Handle | undefined } {
  const cursor: Cursor = { bytes: bytes.subarray(-FOOTER_BYTES), at: 0 };
  return { meta: readHandle(cursor), index: readHandle(cursor) };
}

function readHandle(cursor: Cursor): Handle | undefined {
  try {
    return { offset: readVarint(cursor), size: readVarint(cursor) };
  } catch {
    return undefined;
  }
}

function isSound(bytes: Buffer, { offset, size }: Handle): boolean {
  const end = offset + size + TRAILER_BYTES;
  if (end > bytes.length) return false;
  const crc = crc32c(bytes, offset, offset + size + 1);
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  return bytes.readUInt32LE(offset + size + 1) === masked;
}

function readBlock(bytes: Buffer, handle: Handle | undefined): Buffer | undefined {
  if (!handle || !isSound(bytes, handle)) return undefined;
  const contents = bytes.subarray(handle.offset, handle.offset + handle.size);
  if (bytes[handle.offset + handle.size] !== SNAPPY) return contents;
  return uncompressSync(contents, { asBuffer: true }) as Buffer;
}

/** The entries of a sound block; each key is what it shares with the one before it, and the rest. */
function readEntries(block: Buffer): [key: Buffer, value: Buffer][] {
  const restarts = block.readUInt32LE(block.length - 4);
  const end = block.length - 4 - 4 * restarts;
  const cursor: Cursor = { bytes: block, at: 0 };
  const entries: [Buffer, Buffer][] = [];
  let before: Buffer = Buffer.alloc(0);
  while (cursor.at < end) {
    const shared = readVarint(cursor);
    const rest = readVarint(cursor);
    const length = readVarint(cursor);
    const from = cursor.at;
    cursor.at += rest + length;
    const key = Buffer.concat([before.subarray(0, shared), block.subarray(from, from + rest)]);
    entries.push([key, block.subarray(from + rest, cursor.at)]);
    before = key;
  }
  return entries;
}
