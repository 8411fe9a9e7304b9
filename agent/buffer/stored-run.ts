import { FleetError } from '#shared/errors/fleet-error.ts';
import { type Range, RangeSet } from '#shared/model/range-set.ts';
import type { Run } from '#shared/model/run.ts';
import { crc32c } from '#shared/wire/crc32c.ts';

/** What the disk knows of one run. */
export interface StoredRun extends Run {
  /** Sequences that the ring still answers for; last is first - 1 for a run without records. */
  first: number;
  last: number;
  /** The agent that wrote it stopped in order. */
  cleanEnd: boolean;
  /** Records that are in the store for good. A mark never deletes: the ring does, by age and size. */
  readonly durable: RangeSet;
  /** Of all records appended so far: for estimates. */
  appended: { records: number; samples: number };
  /**
   * Ticks that were recorded with an earlier time than one before them, because the clock stepped back: between
   * them times rise with the sequence. At most MAX_CLOCK_STEPS.
   */
  readonly clockSteps: number[];
  /** Sequences that were never on disk, because it took nothing, and of which nothing is decided yet. */
  unbuffered: UnbufferedRange[];
}

/** A clock that steps more often than this in one run is not followed any more. */
export const MAX_CLOCK_STEPS = 64;

/** Sequences that were given out and could not be written, and what was in them. */
export interface UnbufferedRange extends Range {
  readonly samples: number;
  /** Of the ticks and events inside; absent where there were none. */
  readonly fromMs?: number;
  readonly toMs?: number;
}

interface RunJson {
  id: string;
  cleanEnd: boolean;
  durable: Range[];
  /** Since format 2. */
  first?: number;
  last?: number;
  records?: number;
  samples?: number;
  clockSteps?: number[];
  unbuffered?: UnbufferedRange[];
}

export function encodeRun(run: StoredRun): Uint8Array {
  const json: RunJson = {
    id: Buffer.from(run.id).toString('hex'),
    cleanEnd: run.cleanEnd,
    durable: run.durable.ranges.map(({ first, last }) => ({ first, last })),
    first: run.first,
    last: run.last,
    ...run.appended,
    ...(run.clockSteps.length > 0 && { clockSteps: run.clockSteps }),
    ...(run.unbuffered.length > 0 && { unbuffered: run.unbuffered }),
  };
  const text = JSON.stringify(json);
  return Buffer.from(`${text}#${crc32c(Buffer.from(text))}`);
}

/**
 * Throws `data_loss` where it is damaged: a flipped digit of a mark would lose a sample for good. Format 1 has no
 * checksum. First and last are as of the last mark: `last` is behind, and the records
 * themselves say more.
 */
export function decodeRun(counter: number, bytes: Uint8Array): StoredRun {
  const [text, checksum] = Buffer.from(bytes).toString().split('#') as [string, string?];
  if (checksum !== undefined && Number(checksum) !== crc32c(Buffer.from(text))) {
    throw new FleetError('data_loss', 'Cannot read run: its checksum does not match');
  }
  const json = JSON.parse(text) as RunJson;
  const durable = new RangeSet();
  for (const { first, last } of json.durable) durable.add(first, last);
  return {
    id: Buffer.from(json.id, 'hex'),
    counter,
    first: json.first ?? 0,
    last: json.last ?? 0,
    cleanEnd: json.cleanEnd,
    durable,
    appended: { records: json.records ?? 0, samples: json.samples ?? 0 },
    clockSteps: json.clockSteps ?? [],
    unbuffered: json.unbuffered ?? [],
  };
}

export function newRun(id: Uint8Array, counter: number): StoredRun {
  return {
    id,
    counter,
    first: 1,
    last: 0,
    cleanEnd: false,
    durable: new RangeSet(),
    appended: { records: 0, samples: 0 },
    clockSteps: [],
    unbuffered: [],
  };
}
