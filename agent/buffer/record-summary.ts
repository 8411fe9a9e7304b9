import type { Dictionary } from '#shared/model/dictionary.ts';
import { FrameSummary } from '#shared/wire/frame-summary.ts';
import {
  decodeEventWire,
  decodeLossWire,
  lossFromWire,
  openRecord,
  RecordKind,
  splitTick,
} from '#shared/wire/record.ts';
import { openSegment } from '#shared/wire/segment.ts';
import { parseRecordKey } from './keys.ts';

/** What the ring needs to know of a record to trim it, to date it, or to ledger it. */
export interface RecordSummary {
  readonly sequence: number;
  /** It can be read. */
  readonly ok: boolean;
  /** It is itself a loss record. */
  readonly isLoss?: boolean;
  /** And what it reports is an estimate. */
  readonly estimated?: boolean;
  /** Samples that are lost with it; undefined where that cannot be known. */
  readonly samples: number | undefined;
  /** When it was recorded, Unix ms; undefined for dictionaries and losses, which have no time of their own. */
  readonly timeMs?: number;
  /** What is lost with it spans this time, Unix ms: its own moment, or for a loss record what that reports. */
  readonly fromMs?: number;
  readonly toMs?: number;
}

type DictionaryOf = (hash: bigint) => Dictionary | undefined;

/** The records under one key: one, or as many as the segment holds; a damaged value is one that is not ok. */
export function summarise(key: Uint8Array, value: Uint8Array, dictionaryOf: DictionaryOf): RecordSummary[] {
  const { sequence } = parseRecordKey(key);
  const frames = new Map<bigint, FrameSummary>();
  try {
    const { kind, body } = openRecord(key, value);
    if (kind !== RecordKind.Segment) return [summariseOne(sequence, kind, body, dictionaryOf, frames)];
    return openSegment(body).map((entry, i) =>
      summariseOne(sequence + i, entry.kind, entry.body, dictionaryOf, frames),
    );
  } catch {
    return [{ sequence, ok: false, samples: undefined }];
  }
}

function summariseOne(
  sequence: number,
  kind: RecordKind,
  body: Uint8Array,
  dictionaryOf: DictionaryOf,
  frames: Map<bigint, FrameSummary>,
): RecordSummary {
  if (kind === RecordKind.Tick) {
    const { hash, frame } = splitTick(body);
    const dictionary = dictionaryOf(hash);
    let summary = frames.get(hash);
    if (!summary) {
      // Without its dictionary the time can still be read, the number of samples cannot.
      summary = new FrameSummary(dictionary?.series.length ?? Number.MAX_SAFE_INTEGER);
      frames.set(hash, summary);
    }
    summary.read(frame);
    const timeMs = summary.timestampMs;
    const samples = dictionary ? summary.present : undefined;
    return { sequence, ok: dictionary !== undefined, samples, timeMs, fromMs: timeMs, toMs: timeMs };
  }
  if (kind === RecordKind.Event) {
    const timeMs = Number(decodeEventWire(body).timeUnixMs);
    return { sequence, ok: true, samples: 0, timeMs, fromMs: timeMs, toMs: timeMs };
  }
  if (kind === RecordKind.Loss) {
    const { fromMs, toMs, samples, estimated } = lossFromWire(decodeLossWire(body));
    return { sequence, ok: true, isLoss: true, estimated, samples, fromMs, toMs };
  }
  return { sequence, ok: true, samples: 0 };
}
