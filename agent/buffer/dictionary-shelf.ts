import type { Dictionary } from '#shared/model/dictionary.ts';
import { decodeDictionary } from '#shared/wire/dictionary.ts';
import { openRecord, RecordKind } from '#shared/wire/record.ts';
import { openSegment } from '#shared/wire/segment.ts';
import type { Write } from './batch-writer.ts';
import {
  ALL_DICTIONARIES,
  ALL_RECORDS,
  DICTIONARY_KEY_BYTES,
  dictionaryKey,
  isRecordKey,
  parseDictionaryKey,
  parseRecordKey,
} from './keys.ts';
import type { Database } from './level-database.ts';

interface Shelved {
  readonly dictionary: Dictionary;
  readonly bytes: Uint8Array;
  /** Newest record that uses it. */
  run: number;
  sequence: number;
}

/** Bytes before the dictionary in its entry: run and sequence of its last use. */
const USE_BYTES = 10;
const STILL_IN_USE = 2 ** 48 - 1;

/**
 * The second copy of every dictionary that a record in the ring uses: one damaged dictionary record then costs
 * no tick. An entry leaves when the last record that uses it has left the ring, so a source whose series change
 * at every scrape cannot fill the disk.
 */
export class DictionaryShelf {
  readonly #entries: Map<bigint, Shelved>;

  private constructor(entries: Map<bigint, Shelved>) {
    this.#entries = entries;
  }

  /** An entry that is damaged is fetched from the record of its dictionary, if that is still in the ring. */
  static async load(db: Database): Promise<DictionaryShelf> {
    const entries = new Map<bigint, Shelved>();
    const damaged = new Set<bigint>();
    for await (const [key, value] of db.iterator(ALL_DICTIONARIES)) {
      if (key.length !== DICTIONARY_KEY_BYTES) continue;
      try {
        const shelved = decodeEntry(value);
        entries.set(shelved.dictionary.hash, shelved);
      } catch {
        damaged.add(parseDictionaryKey(key));
      }
    }
    if (damaged.size > 0) await recover(db, damaged, entries);
    return new DictionaryShelf(entries);
  }

  get(hash: bigint): Dictionary | undefined {
    return this.#entries.get(hash)?.dictionary;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Series of a dictionary on the average, 0 without one: what a record holds of which nothing else is known. */
  get meanSeries(): number {
    let series = 0;
    for (const { dictionary } of this.#entries.values()) series += dictionary.series.length;
    return this.#entries.size === 0 ? 0 : series / this.#entries.size;
  }

  /** Begins the use of a dictionary by a run; returns the entry to write with the run's first record of it. */
  open(dictionary: Dictionary, bytes: Uint8Array, run: number): Write {
    this.#entries.set(dictionary.hash, { dictionary, bytes, run, sequence: STILL_IN_USE });
    return { type: 'put', key: dictionaryKey(dictionary.hash), value: entryOf(run, STILL_IN_USE, bytes) };
  }

  /** Ends its use at a sequence; returns the entry to write. */
  close(dictionary: Dictionary, sequence: number): Write | undefined {
    const shelved = this.#entries.get(dictionary.hash);
    if (!shelved) return undefined;
    shelved.sequence = sequence;
    const value = entryOf(shelved.run, sequence, shelved.bytes);
    return { type: 'put', key: dictionaryKey(dictionary.hash), value };
  }

  /** Every entry, to write: after the database was begun anew. */
  *all(): Iterable<Write> {
    for (const [hash, { run, sequence, bytes }] of this.#entries) {
      yield { type: 'put', key: dictionaryKey(hash), value: entryOf(run, sequence, bytes) };
    }
  }

  /**
   * Drops what only records up to (run, sequence) used; returns what to write for it. A run that ended without a
   * word never closed its dictionaries: they go when a later run's records do.
   */
  forget(run: number, sequence: number): Write[] {
    const writes: Write[] = [];
    for (const [hash, entry] of this.#entries) {
      const gone = entry.run < run || (entry.run === run && entry.sequence <= sequence);
      if (!gone) continue;
      this.#entries.delete(hash);
      writes.push({ type: 'del', key: dictionaryKey(hash) });
    }
    return writes;
  }
}

/** Throws where it is damaged: the hash in it does not match. */
function decodeEntry(value: Uint8Array): Shelved {
  const view = Buffer.from(value.buffer, value.byteOffset, value.length);
  const bytes = view.subarray(USE_BYTES);
  const dictionary = decodeDictionary(bytes);
  return { dictionary, bytes, run: view.readUInt32BE(0), sequence: view.readUIntBE(4, 6) };
}

async function recover(db: Database, hashes: Set<bigint>, entries: Map<bigint, Shelved>): Promise<void> {
  for await (const [key, value] of db.iterator(ALL_RECORDS)) {
    if (hashes.size === 0) return;
    if (!isRecordKey(key)) continue;
    for (const bytes of dictionariesIn(key, value)) {
      const dictionary = decodeDictionary(bytes);
      if (!hashes.delete(dictionary.hash)) continue;
      const { run } = parseRecordKey(key);
      entries.set(dictionary.hash, { dictionary, bytes, run, sequence: STILL_IN_USE });
    }
  }
}

/** The dictionary records of a value, alone or in a segment; none of one that is damaged. */
function dictionariesIn(key: Uint8Array, value: Uint8Array): Uint8Array[] {
  if (value[1] !== RecordKind.Dictionary && value[1] !== RecordKind.Segment) return [];
  try {
    const { kind, body } = openRecord(key, value);
    const entries = kind === RecordKind.Segment ? openSegment(body) : [{ kind, body }];
    return entries.filter((entry) => entry.kind === RecordKind.Dictionary).map((entry) => entry.body);
  } catch {
    return [];
  }
}

function entryOf(run: number, sequence: number, bytes: Uint8Array): Uint8Array {
  const head = Buffer.allocUnsafe(USE_BYTES);
  head.writeUInt32BE(run, 0);
  head.writeUIntBE(sequence, 4, 6);
  return Buffer.concat([head, bytes]);
}
