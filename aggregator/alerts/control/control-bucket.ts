import { JetStreamApiError, type JetStreamManager, StorageType } from '@nats-io/jetstream';
import { type KV, type KvEntry, Kvm } from '@nats-io/kv';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { NatsSession } from '../bus/nats-link.ts';
import { MAX_TOTAL_BYTES } from './document.ts';
import { MAX_BYTES } from './kv-key.ts';

export const CONTROL_BUCKET = 'GPUFLEET_CONTROL';
const STREAM = `KV_${CONTROL_BUCKET}`;

/** One change of the bucket; `value` is undefined where the key was deleted. */
export interface BucketChange {
  readonly kvKey: string;
  readonly value: Uint8Array | undefined;
  readonly revision: number;
}

export interface BucketTip {
  /** The last that was given. */
  readonly revision: number;
  readonly empty: boolean;
}

export type BucketWatch = AsyncIterable<KvEntry> & { stop(): void };

/** nats-server's error codes (server/errors.json): wrong last sequence, and the same without its number. */
const WRONG_LAST = [10071, 10164];
/** Maximum bytes or messages exceeded, and a message larger than the stream takes. */
const FULL = [10077, 10047, 10023];
const TOO_LARGE = [10054];

/** What became of a write: stored at a revision, or another was first (at `at`, where the server says it). */
export type Written = { readonly revision: number } | { readonly lostTo: number | undefined };

/** The bucket over one connection. */
export class ControlBucket {
  readonly #jsm: JetStreamManager;
  readonly #kv: KV;
  /** When the stream below was created, as the server says: another bucket of the name has another. */
  readonly created: string;

  private constructor(jsm: JetStreamManager, kv: KV, created: string) {
    this.#jsm = jsm;
    this.#kv = kv;
    this.created = created;
  }

  /** Made where it is missing. One that exists is left as it is. */
  static async open({ js, jsm }: NatsSession, replicas: number): Promise<ControlBucket> {
    const kv = await new Kvm(js).create(CONTROL_BUCKET, {
      description: 'gpufleet: silences, leases, notifications and actions',
      history: 1,
      replicas,
      storage: StorageType.File,
      max_bytes: 2 * MAX_TOTAL_BYTES,
      maxValueSize: MAX_BYTES,
    });
    return new ControlBucket(jsm, kv, (await jsm.streams.info(STREAM)).created);
  }

  /** Where it is now; undefined where the bucket is no longer the one that was opened. */
  async tip(): Promise<BucketTip | undefined> {
    try {
      const { created, state } = await this.#jsm.streams.info(STREAM);
      if (created !== this.created) return undefined;
      return { revision: state.last_seq, empty: state.messages === 0 };
    } catch (thrown) {
      if (thrown instanceof JetStreamApiError) return undefined;
      throw thrown;
    }
  }

  /** First the last change of each key (the last of them has `delta` 0; none where it is empty), then each. */
  watch(): Promise<BucketWatch> {
    return this.#kv.watch();
  }

  /** `marker` is the revision at which the key was deleted, where that is known; 0 where it is not. */
  async create(kvKey: string, body: string, marker: number): Promise<Written> {
    if (marker > 0) {
      const written = await this.update(kvKey, body, marker);
      if ('revision' in written) return written;
    }
    return written(() => this.#kv.create(kvKey, body));
  }

  /** Only where there never was a document of the key, or its deletion is long ago. */
  async plant(kvKey: string, body: string): Promise<Written> {
    return written(() => this.#kv.put(kvKey, body, { previousSeq: 0 }));
  }

  async update(kvKey: string, body: string, expected: number): Promise<Written> {
    return written(() => this.#kv.update(kvKey, body, expected));
  }

  /** The deletion has a revision of its own, which only the watch tells. */
  async delete(kvKey: string, expected: number): Promise<Written> {
    return written(async () => {
      await this.#kv.delete(kvKey, { previousSeq: expected });
      return expected;
    });
  }

  /** Takes the mark of a deletion away, unless somebody has written there since. */
  async forget(kvKey: string, marker: number): Promise<void> {
    await this.#jsm.streams.purge(STREAM, { filter: `$KV.${CONTROL_BUCKET}.${kvKey}`, seq: marker + 1 });
  }
}

export function toChange(entry: KvEntry): BucketChange {
  return {
    kvKey: entry.key,
    value: entry.operation === 'PUT' ? entry.value : undefined,
    revision: entry.revision,
  };
}

async function written(write: () => Promise<number>): Promise<Written> {
  try {
    return { revision: await write() };
  } catch (thrown) {
    if (!(thrown instanceof JetStreamApiError)) throw unavailable(thrown);
    if (WRONG_LAST.includes(thrown.code)) {
      const at = /wrong last sequence: (\d+)/.exec(thrown.message);
      return { lostTo: at ? Number(at[1]) : undefined };
    }
    if (FULL.includes(thrown.code))
      throw new FleetError('resource_exhausted', 'Cannot write to the control bucket: it is full', {
        cause: thrown,
      });
    if (TOO_LARGE.includes(thrown.code))
      throw new FleetError('invalid_input', 'Cannot write to the control bucket: too large', {
        cause: thrown,
      });
    throw unavailable(thrown);
  }
}

function unavailable(cause: unknown): FleetError {
  return new FleetError('unavailable', 'Cannot write to the control bucket: NATS did not confirm', { cause });
}
