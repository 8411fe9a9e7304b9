import type { Tick } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { RecordKind } from '#shared/wire/record.ts';
import type { DeliverableRun, RunRange } from './delivery.ts';

/** The stage below: what the uplink reads records from and writes marks to. */
export interface RecordSource {
  readonly runs: readonly (DeliverableRun & { readonly id: Uint8Array; readonly cleanEnd: boolean })[];
  readonly live: DeliverableRun;
  /** Sequence of the live run's newest loss record, 0 without one: nobody offers it, it follows from disk. */
  readonly lossesThrough: number;
  readonly dictionaries: {
    get(hash: bigint): Dictionary | undefined;
    /** Series of a dictionary on the average, 0 without one. */
    readonly meanSeries: number;
  };
  /** What is being written is waited for. */
  read(
    run: RecordSource['runs'][number],
    first: number,
    last: number,
    maxBytes: number,
  ): Promise<readonly ReadRecord[]>;
  saveMarks(run: RecordSource['runs'][number]): Promise<void>;
  appendLoss(loss: Loss): Promise<void>;
  /** Unix ms of a record, or of the nearest later one that has a time. */
  timeOf(run: RecordSource['runs'][number], sequence: number): Promise<number | undefined>;
  /** The lowest sequence whose time is at or after `timeMs`; undefined where all are before it. */
  firstAtOrAfter(run: RecordSource['runs'][number], timeMs: number): Promise<number | undefined>;
  /** The fate of records that could not be written to disk; other sequences are not touched. */
  settleUnbuffered(
    run: Pick<RecordSource['runs'][number], 'counter'>,
    first: number,
    last: number,
    fate: 'stored' | 'lost',
  ): void;
  /** What of the ranges left the ring because the store had it for good; undefined for nothing, and said once. */
  takeDeparted(
    ranges: readonly RunRange[],
  ): (Pick<Loss, 'samples' | 'fromMs' | 'toMs'> & { readonly records: number }) | undefined;
  /** Told who knows where a record stands that is not known to be durable. */
  askFate(fateOf: (run: number, sequence: number) => 'in_flight' | 'accepted' | undefined): void;
  /** Small facts that outlive a run. */
  fact(name: string): string | undefined;
  saveFact(name: string, value: string): void;
}

/**
 * As it lies on disk. In each result of a read the first tick of a dictionary is a keyframe; a later one may be a
 * difference from the one before it of the same dictionary.
 */
export type ReadRecord =
  | { readonly sequence: number; readonly ok: true; readonly kind: RecordKind; readonly body: Uint8Array }
  | {
      readonly sequence: number;
      readonly ok: false;
      readonly why: string;
      /** It was never on disk, and nobody can send it any more. */
      readonly unbuffered?: boolean;
    };

/** What the live lane may carry. */
export type LiveRecord =
  | {
      readonly sequence: number;
      readonly bytes: number;
      /** Slots of the tick that hold a value. */
      readonly samples: number;
      readonly tick: Tick;
      readonly dictionarySequence?: number;
    }
  | { readonly sequence: number; readonly bytes: number; readonly event: FleetEvent };
