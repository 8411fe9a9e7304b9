import type { Tick } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { RecordKind } from '#shared/wire/record.ts';
import type { DeliverableRun } from './delivery.ts';

/** The stage below: what the uplink reads records from and writes marks to. */
export interface RecordSource {
  readonly runs: readonly (DeliverableRun & { readonly id: Uint8Array; readonly cleanEnd: boolean })[];
  readonly live: DeliverableRun;
  readonly dictionaries: { get(hash: bigint): Dictionary | undefined };
  read(
    run: RecordSource['runs'][number],
    first: number,
    last: number,
    maxBytes: number,
  ): Promise<readonly ReadRecord[]>;
  saveMarks(run: RecordSource['runs'][number]): Promise<void>;
  appendLoss(loss: Loss): Promise<void>;
}

export type ReadRecord =
  | { readonly sequence: number; readonly ok: true; readonly kind: RecordKind; readonly body: Uint8Array }
  | { readonly sequence: number; readonly ok: false; readonly why: string };

/** What the live lane may carry. */
export type LiveRecord =
  | {
      readonly sequence: number;
      readonly bytes: number;
      readonly tick: Tick;
      readonly dictionarySequence?: number;
    }
  | { readonly sequence: number; readonly bytes: number; readonly event: FleetEvent };
