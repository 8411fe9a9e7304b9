import type { Range } from '#shared/model/range-set.ts';
import { countPresent } from '#shared/model/slot-state.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { RecordKind, splitTick } from '#shared/wire/record.ts';
import type { ReadRecord, RecordSource } from './record-source.ts';

type SourceRun = RecordSource['runs'][number];

/** What a range of records held, as far as they can be read. */
export interface LostRecords {
  readonly fromMs: number;
  readonly toMs: number;
  readonly samples: number;
  /** Some could not be read: their samples are a guess. */
  readonly estimated: boolean;
}

const READ_BYTES = 256 * 1024;
/** Where a range cannot say when it began, the record this far before it does. */
const LOOK_BACK_RECORDS = 16;

/** Neighbouring sequences as ranges; the input is in order. */
export function contiguous<T extends { readonly sequence: number; readonly why: string }>(
  records: readonly T[],
): (Range & { readonly why: string })[] {
  const ranges: { first: number; last: number; why: string }[] = [];
  for (const { sequence, why } of records) {
    const before = ranges.at(-1);
    if (before && before.last + 1 === sequence) before.last = sequence;
    else ranges.push({ first: sequence, last: sequence, why });
  }
  return ranges;
}

/**
 * Reads records that will never be delivered, to say what is lost with them. `guess` is the number of samples of a
 * record that cannot be read.
 */
export async function describeLost(
  source: RecordSource,
  run: SourceRun,
  { first, last }: Range,
  guess: number,
): Promise<LostRecords> {
  let fromMs = Number.POSITIVE_INFINITY;
  let toMs = 0;
  let samples = 0;
  let unread = 0;
  for (let at = first; at <= last; ) {
    const records = await source.read(run, at, last, READ_BYTES);
    if (records.length === 0) break;
    for (const tick of ticksOf(source, records)) {
      if (tick === undefined) unread++;
      else {
        fromMs = Math.min(fromMs, tick.timestampMs);
        toMs = Math.max(toMs, tick.timestampMs);
        samples += tick.samples;
      }
    }
    at = records.at(-1)!.sequence + 1;
  }
  if (unread > 0) {
    fromMs = Math.min(fromMs, await timeBefore(source, run, first));
    toMs = Math.max(toMs, (await source.timeOf(run, last + 1)) ?? toMs);
  }
  return {
    fromMs: Number.isFinite(fromMs) ? fromMs : 0,
    toMs,
    samples: samples + Math.round(unread * guess),
    estimated: unread > 0,
  };
}

/** Of each tick its time and samples, of what cannot be read undefined; other records hold no samples. */
function* ticksOf(
  source: RecordSource,
  records: readonly ReadRecord[],
): Iterable<{ timestampMs: number; samples: number } | undefined> {
  const decoders = new Map<bigint, FrameDecoder>();
  for (const record of records) {
    if (!record.ok) {
      yield undefined;
      continue;
    }
    if (record.kind !== RecordKind.Tick) continue;
    const { hash, frame } = splitTick(record.body);
    const dictionary = source.dictionaries.get(hash);
    if (!dictionary) {
      yield undefined;
      continue;
    }
    const decoder = decoders.get(hash) ?? new FrameDecoder(dictionary);
    decoders.set(hash, decoder);
    try {
      const timestampMs = decoder.decode(frame);
      yield { timestampMs, samples: countPresent(decoder.states) };
    } catch {
      yield undefined;
    }
  }
}

async function timeBefore(source: RecordSource, run: SourceRun, first: number): Promise<number> {
  if (first > run.first) {
    const time = await source.timeOf(run, Math.max(run.first, first - LOOK_BACK_RECORDS));
    if (time !== undefined) return time;
  }
  // The range begins the run: the run before it ended before that.
  const before = source.runs[source.runs.indexOf(run) - 1];
  return (before && (await source.timeOf(before, before.last))) ?? 0;
}
