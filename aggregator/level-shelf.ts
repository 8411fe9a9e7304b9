import { rename } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { Level } from 'level';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Shelf } from './ledger/shelf.ts';

export interface LevelShelfOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

const CRC_BYTES = 4;
/** Values read at a time when a prefix is gone through: 1,000 of a few hundred bytes each. */
const HIGH_WATER_BYTES = 512 * 1024;

/**
 * Opens a shelf in LevelDB. A damaged database is moved aside and a new one begun. LevelDB reads a flipped byte back
 * as it is, so every value carries a CRC-32; a damaged one is counted, named in the log, and left out.
 *
 * It is here and not in the stage that uses it: the wiring opens what several stages may want, and no second stage
 * knows the database. Throws `unavailable` where another process holds the folder or the disk refuses.
 */
export async function openLevelShelf(
  folder: string,
  options: LevelShelfOptions,
): Promise<Shelf & AsyncDisposable> {
  return new LevelShelf(await openOrReplace(folder, options), folder, options);
}

async function openOrReplace(
  folder: string,
  { clock, logger }: LevelShelfOptions,
): Promise<Level<string, Uint8Array>> {
  try {
    return await openLevel(folder);
  } catch (thrown) {
    const why = describeError(thrown);
    if (isLocked(thrown))
      throw new FleetError('unavailable', `Cannot open ledger ${folder}: another process uses it`, {
        cause: thrown,
      });
    // A full or read-only disk is no damage: nothing may be moved for it.
    if (!isDamage(thrown))
      throw new FleetError('unavailable', `Cannot open ledger ${folder}: ${why}`, { cause: thrown });
    const aside = `${folder}.damaged-${clock.now()}`;
    await rename(folder, aside).catch((cause: unknown) => {
      throw new FleetError('unavailable', `Cannot open ledger ${folder}: ${why}`, { cause });
    });
    logger.error({ aside, why }, 'ledger is damaged: moved aside, starting a new one');
    return openLevel(folder);
  }
}

async function openLevel(folder: string): Promise<Level<string, Uint8Array>> {
  const level = new Level<string, Uint8Array>(folder, { valueEncoding: 'view' });
  await level.open();
  return level;
}

class LevelShelf implements Shelf, AsyncDisposable {
  readonly #level: Level<string, Uint8Array>;
  readonly #folder: string;
  readonly #logger: Logger;
  readonly #damaged;

  constructor(level: Level<string, Uint8Array>, folder: string, { logger, registry }: LevelShelfOptions) {
    this.#level = level;
    this.#folder = folder;
    this.#logger = logger;
    this.#damaged = counter(registry, {
      name: 'gpufleet_ledger_damaged_values_total',
      help: 'Values of the ledger database whose checksum did not match: they are left out.',
    });
  }

  async write(changes: Parameters<Shelf['write']>[0], sync: boolean): Promise<void> {
    await this.#level.batch(
      changes.map(({ key, value }) =>
        value === undefined
          ? { type: 'del' as const, key }
          : { type: 'put' as const, key, value: encode(value) },
      ),
      { sync },
    );
  }

  async *entries(prefix: string): AsyncIterable<readonly [string, unknown]> {
    const range = { gte: prefix, lt: `${prefix}\u{10ffff}`, highWaterMarkBytes: HIGH_WATER_BYTES };
    for await (const [key, bytes] of this.#level.iterator(range)) {
      const value = decode(bytes);
      if (value !== undefined) yield [key, value];
      else {
        this.#damaged.inc();
        this.#logger.error(
          { folder: this.#folder, key },
          'a value of the ledger is damaged and was left out',
        );
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#level.close();
  }
}

/** CRC-32 (4 bytes, little-endian) of the rest, which is JSON. */
function encode(value: unknown): Uint8Array {
  const json = Buffer.from(JSON.stringify(value));
  const bytes = Buffer.allocUnsafe(CRC_BYTES + json.length);
  bytes.writeUInt32LE(crc32(json), 0);
  bytes.set(json, CRC_BYTES);
  return bytes;
}

function decode(bytes: Uint8Array): unknown {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length <= CRC_BYTES) return undefined;
  const json = buffer.subarray(CRC_BYTES);
  return buffer.readUInt32LE(0) === crc32(json) ? (JSON.parse(json.toString()) as unknown) : undefined;
}

const isLocked = (thrown: unknown): boolean =>
  chainOf(thrown).some((error) => (error as { code?: unknown }).code === 'LEVEL_LOCKED');

/** LevelDB calls a missing file an input/output error, as it does a full disk: the words tell them apart. */
const isDamage = (thrown: unknown): boolean =>
  chainOf(thrown).some(
    (error) =>
      (error as { code?: unknown }).code === 'LEVEL_CORRUPTION' ||
      /No such file|not exist|Corruption/.test(error.message),
  );

function chainOf(thrown: unknown): Error[] {
  const chain: Error[] = [];
  for (let error = thrown; error instanceof Error && chain.length < 10; error = error.cause)
    chain.push(error);
  return chain;
}
