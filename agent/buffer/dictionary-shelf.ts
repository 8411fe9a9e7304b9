import type { Dictionary } from '#shared/model/dictionary.ts';
import { decodeDictionary } from '#shared/wire/dictionary.ts';
import { ALL_DICTIONARIES, dictionaryKey } from './keys.ts';
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
  readonly #db: Database;
  readonly #entries: Map<bigint, Shelved>;

  private constructor(db: Database, entries: Map<bigint, Shelved>) {
    this.#db = db;
    this.#entries = entries;
  }

  static async load(db: Database): Promise<DictionaryShelf> {
    const entries = new Map<bigint, Shelved>();
    for await (const [, value] of db.iterator(ALL_DICTIONARIES)) {
      const view = Buffer.from(value.buffer, value.byteOffset, value.length);
      const bytes = view.subarray(USE_BYTES);
      const dictionary = decodeDictionary(bytes);
      entries.set(dictionary.hash, {
        dictionary,
        bytes,
        run: view.readUInt32BE(0),
        sequence: view.readUIntBE(4, 6),
      });
    }
    return new DictionaryShelf(db, entries);
  }

  get(hash: bigint): Dictionary | undefined {
    return this.#entries.get(hash)?.dictionary;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Begins the use of a dictionary by a run; returns the entry to write with the run's first record of it. */
  open(dictionary: Dictionary, bytes: Uint8Array, run: number): { key: Buffer; value: Uint8Array } {
    this.#entries.set(dictionary.hash, { dictionary, bytes, run, sequence: STILL_IN_USE });
    return { key: dictionaryKey(dictionary.hash), value: entryOf(run, STILL_IN_USE, bytes) };
  }

  /** Ends its use at a sequence; returns the entry to write. */
  close(dictionary: Dictionary, sequence: number): { key: Buffer; value: Uint8Array } | undefined {
    const shelved = this.#entries.get(dictionary.hash);
    if (!shelved) return undefined;
    shelved.sequence = sequence;
    return { key: dictionaryKey(dictionary.hash), value: entryOf(shelved.run, sequence, shelved.bytes) };
  }

  /**
   * Drops what only records up to (run, sequence) used. A run that ended without a word never closed its
   * dictionaries: they go when a later run's records do.
   */
  async forget(run: number, sequence: number): Promise<void> {
    for (const [hash, entry] of this.#entries) {
      const gone = entry.run < run || (entry.run === run && entry.sequence <= sequence);
      if (!gone) continue;
      this.#entries.delete(hash);
      await this.#db.del(dictionaryKey(hash));
    }
  }
}

function entryOf(run: number, sequence: number, bytes: Uint8Array): Uint8Array {
  const head = Buffer.allocUnsafe(USE_BYTES);
  head.writeUInt32BE(run, 0);
  head.writeUIntBE(sequence, 4, 6);
  return Buffer.concat([head, bytes]);
}
