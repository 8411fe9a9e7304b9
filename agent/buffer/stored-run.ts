import { type Range, RangeSet } from '#shared/model/range-set.ts';
import type { Run } from '#shared/model/run.ts';

/** What the disk knows of one run. */
export interface StoredRun extends Run {
  /** Sequences on disk; last is first - 1 for a run without records. */
  first: number;
  last: number;
  /** The agent that wrote it stopped in order. */
  cleanEnd: boolean;
  /** Records that are in the store for good. A mark never deletes: the ring does, by age and size. */
  readonly durable: RangeSet;
}

interface RunJson {
  id: string;
  cleanEnd: boolean;
  durable: Range[];
}

/** First and last are not stored: the records themselves say. */
export function encodeRun(run: StoredRun): Uint8Array {
  const json: RunJson = {
    id: Buffer.from(run.id).toString('hex'),
    cleanEnd: run.cleanEnd,
    durable: run.durable.ranges.map(({ first, last }) => ({ first, last })),
  };
  return Buffer.from(JSON.stringify(json));
}

export function decodeRun(counter: number, bytes: Uint8Array): StoredRun {
  const json = JSON.parse(Buffer.from(bytes).toString()) as RunJson;
  const durable = new RangeSet();
  for (const { first, last } of json.durable) durable.add(first, last);
  return { id: Buffer.from(json.id, 'hex'), counter, first: 1, last: 0, cleanEnd: json.cleanEnd, durable };
}
