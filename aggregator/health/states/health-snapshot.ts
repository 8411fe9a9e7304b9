import { crc32 } from 'node:zlib';
import { describeError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { MachineSnapshot } from '../state-machine.ts';
import type { HealthShelf, HealthShelfChange } from './health-shelf.ts';
import { isMachineSnapshot } from './machine-snapshot.ts';

/** What of one GPU survives a restart. */
export interface SavedGpu {
  readonly uuid: string;
  readonly machine: MachineSnapshot;
  /** JSON, known to the engine alone. Should be the same while nothing happens: a change is a write. */
  readonly record: unknown;
}

/** One that was read back. */
export interface RestoredGpu extends SavedGpu {
  /** When it was written, Unix milliseconds: as old as a day where nothing changed. */
  readonly savedMs: number;
}

/** What one round did. */
export interface SaveRound {
  readonly written: number;
  readonly bytes: number;
  /** The round ended at its limit of bytes: the rest is for the next. */
  readonly partial: boolean;
}

export interface HealthSnapshotsOptions {
  readonly shelf: HealthShelf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Every GPU that is to survive. Gone through slowly: it must bear changes meanwhile, as a Map's iterator does. */
  readonly gpus: () => Iterable<SavedGpu>;
  /** Between two rounds; 30 s by default. What happened since the last is lost with a kill. */
  readonly intervalMs?: number;
  /** Most bytes of one round, as JSON; 32 MiB by default. The rest is written in the next rounds. */
  readonly maxRoundBytes?: number;
  /** Most bytes of one GPU; 16 KiB by default. A bigger one is not written, counted. */
  readonly maxGpuBytes?: number;
  /** Most GPUs on disk; 200,000 by default. Others are not written, counted. */
  readonly maxGpus?: number;
}

/** What was written last of a GPU. */
interface Written {
  readonly crc: number;
  readonly savedMs: number;
}

const VERSION = 1;
const PREFIX = 'health/';
/** GPUs at a time, between which the process does other work: about 5 ms. */
const SLICE = 500;
const DAY_MS = 86_400_000;
/** An entry that did not change is written again, so that its age says when the GPU was last there. */
const RENEW_MS = DAY_MS;
/** Own judgement: a GPU that was away for so long (a repair, a return to the maker) starts anew. */
const FORGET_MS = 30 * DAY_MS;

/**
 * Keeps on disk what health needs after a restart, one entry a GPU, written where it changed. A kill loses the last
 * round; a newer version's or a broken entry is left out, counted and logged, and that GPU starts anew.
 */
export class HealthSnapshots {
  readonly #options: HealthSnapshotsOptions;
  readonly #written = new Map<string, Written>();
  readonly #skipped: Counter<'reason'>;
  readonly #failed: Counter;
  #round: Promise<SaveRound> | undefined;
  /** How many GPUs the last round came by before its limit. */
  #position = 0;

  constructor(options: HealthSnapshotsOptions) {
    this.#options = options;
    this.#skipped = counter(options.registry, {
      name: 'gpufleet_health_snapshot_skipped_total',
      help: 'GPUs whose health was not saved or not read back: newer version, broken, too big, too many, too old.',
      labelNames: ['reason'],
    });
    this.#failed = counter(options.registry, {
      name: 'gpufleet_health_snapshot_failures_total',
      help: 'Rounds in which the disk refused what health wanted to keep; tried again with the next.',
    });
    const size = (): number => this.#written.size;
    gauge(options.registry, {
      name: 'gpufleet_health_snapshot_gpus',
      help: 'GPUs whose health is on disk.',
      collect() {
        this.set(size());
      },
    });
  }

  /** What is on disk. Read it to the end before the first round. Entries older than 30 days are taken away. */
  async *load(): AsyncGenerator<RestoredGpu> {
    const { shelf, clock, logger } = this.#options;
    const oldestMs = clock.now() - FORGET_MS;
    const gone: HealthShelfChange[] = [];
    const skipped = { newer: 0, broken: 0 };
    for await (const [key, value] of shelf.entries(PREFIX)) {
      const read = parse(key.slice(PREFIX.length), value);
      if (typeof read === 'string') skipped[read]++;
      else if (read.savedMs < oldestMs) gone.push({ key });
      else {
        const { uuid, machine, record } = read;
        this.#written.set(uuid, { crc: crc32(JSON.stringify([machine, record])), savedMs: read.savedMs });
        yield read;
      }
    }
    for (const reason of ['newer', 'broken'] as const) {
      if (skipped[reason] === 0) continue;
      this.#skipped.inc({ reason }, skipped[reason]);
      logger.warn(
        { reason, gpus: skipped[reason] },
        'health of GPUs could not be read back: they start anew',
      );
    }
    if (gone.length === 0) return;
    this.#skipped.inc({ reason: 'old' }, gone.length);
    // Where the disk refuses, the next start takes them away.
    await shelf.write(gone, false).catch(() => {});
  }

  /** Writes a round every so often until the signal aborts, and a last one then. */
  async run(signal: AbortSignal): Promise<void> {
    await repeat(this.#options.intervalMs ?? 30_000, signal, () => void this.#saveQuietly());
    await this.#round?.catch(() => {});
    await this.#saveQuietly();
  }

  /** One round, or the one that is under way. Rejects where the disk refuses: what was not written is in the next. */
  save(): Promise<SaveRound> {
    this.#round ??= this.#save().finally(() => {
      this.#round = undefined;
    });
    return this.#round;
  }

  async #saveQuietly(): Promise<void> {
    await this.save().catch((error: unknown) => {
      this.#failed.inc();
      this.#options.logger.error({ cause: describeError(error) }, 'cannot save the health of GPUs');
    });
  }

  async #save(): Promise<SaveRound> {
    const { clock, gpus, maxRoundBytes = 32 * 2 ** 20 } = this.#options;
    const nowMs = clock.now();
    let slice: Slice = { changes: [], written: [] };
    let position = 0;
    let written = 0;
    let bytes = 0;
    const skip = this.#position;
    this.#position = 0;
    for (const gpu of gpus()) {
      position++;
      // Where the last round stopped: those before had their turn.
      if (position <= skip) continue;
      bytes += this.#collect(gpu, nowMs, slice);
      if (bytes >= maxRoundBytes) {
        this.#position = position;
        break;
      }
      if (position % SLICE !== 0) continue;
      written += await this.#writeSlice(slice);
      slice = { changes: [], written: [] };
    }
    this.#collectGone(nowMs, slice);
    written += await this.#writeSlice(slice);
    return { written, bytes, partial: this.#position > 0 || skip > 0 };
  }

  /** Takes one GPU into the slice where it changed; how many bytes it is. */
  #collect({ uuid, machine, record }: SavedGpu, nowMs: number, slice: Slice): number {
    const { maxGpuBytes = 16_384, maxGpus = 200_000 } = this.#options;
    const json = JSON.stringify([machine, record]);
    const crc = crc32(json);
    const before = this.#written.get(uuid);
    if (before?.crc === crc && nowMs - before.savedMs < RENEW_MS) return 0;
    if (json.length > maxGpuBytes) {
      this.#skipped.inc({ reason: 'too_big' });
      return 0;
    }
    if (before === undefined && this.#written.size + slice.written.length >= maxGpus) {
      this.#skipped.inc({ reason: 'too_many' });
      return 0;
    }
    slice.changes.push({ key: PREFIX + uuid, value: { v: VERSION, savedMs: nowMs, machine, record } });
    slice.written.push([uuid, { crc, savedMs: nowMs }]);
    return json.length;
  }

  /** Those that were not there for so long that they are forgotten. */
  #collectGone(nowMs: number, { changes }: Slice): void {
    for (const [uuid, { savedMs }] of this.#written) {
      if (nowMs - savedMs < FORGET_MS) continue;
      this.#written.delete(uuid);
      changes.push({ key: PREFIX + uuid });
      this.#skipped.inc({ reason: 'old' });
    }
  }

  async #writeSlice({ changes, written }: Slice): Promise<number> {
    // Also without a change: the process does other work here.
    if (changes.length > 0) await this.#options.shelf.write(changes, false);
    else await new Promise((resolve) => setImmediate(resolve));
    for (const [uuid, what] of written) this.#written.set(uuid, what);
    return written.length;
  }
}

interface Slice {
  readonly changes: HealthShelfChange[];
  readonly written: [uuid: string, Written][];
}

function parse(uuid: string, value: unknown): RestoredGpu | 'newer' | 'broken' {
  if (typeof value !== 'object' || value === null) return 'broken';
  const { v, savedMs, machine, record } = value as Readonly<Record<string, unknown>>;
  if (typeof v === 'number' && v > VERSION) return 'newer';
  if (v !== VERSION || typeof savedMs !== 'number' || !isMachineSnapshot(machine) || record === undefined)
    return 'broken';
  return { uuid, machine, record, savedMs };
}
