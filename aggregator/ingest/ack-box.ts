import { create } from '@bufbuild/protobuf';
import {
  type Ack,
  AckSchema,
  type Range,
  RangeSchema,
  RefusalSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { RangeSet } from '#shared/model/range-set.ts';
import type { Outcome, StoreStatus } from './ingest-sink.ts';

/** Refusals that wait, and ranges; beyond it an acknowledgement goes at once. */
const MAX_REFUSALS = 100;
const MAX_RANGES = 1_000;
/** Of a uint32: 49 days. */
const MAX_AGE_MS = 0xffffffff;

/**
 * Collects outcomes until an acknowledgement is due: one message for many records. Accepted ranges of two store
 * incarnations never share a message, because the agent books all of it under one.
 */
export class AckBox {
  readonly #windowBytes: number;
  readonly #accepted = new Map<number, RangeSet>();
  readonly #deferred = new Map<number, RangeSet>();
  readonly #refused: { run: number; first: number; last: number; reason: string; detail: string }[] = [];
  #epoch = 0n;

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  get isEmpty(): boolean {
    return this.#accepted.size === 0 && this.#deferred.size === 0 && this.#refused.length === 0;
  }

  /** True where what is collected must be sent before this outcome can be added. */
  mustSendBefore(outcome: Outcome): boolean {
    if (outcome.state === 'accepted' && this.#accepted.size > 0 && outcome.epoch !== this.#epoch) return true;
    return this.#refused.length >= MAX_REFUSALS || this.#ranges() >= MAX_RANGES;
  }

  /** Books sequences `first` to `last` of a run. */
  add(run: number, first: number, last: number, outcome: Outcome): void {
    switch (outcome.state) {
      case 'accepted':
        this.#epoch = outcome.epoch;
        setOf(this.#accepted, run).add(first, last);
        break;
      case 'deferred':
        setOf(this.#deferred, run).add(first, last);
        break;
      case 'refused':
        this.#refuse(run, first, last, outcome.reason, outcome.detail);
        break;
    }
  }

  /** The message for all of it, and an empty box. Without an accepted record it carries the newest incarnation. */
  take(store: StoreStatus, backfillWindowBytes: number): Ack {
    const storeEpoch = this.#accepted.size > 0 ? this.#epoch : store.epoch;
    // When an incarnation that is over was last read is not known any more: that makes nothing durable.
    const epochAgeMs = storeEpoch === store.epoch ? Math.max(0, Math.round(store.epochAgeMs)) : MAX_AGE_MS;
    const ack = create(AckSchema, {
      accepted: rangesOf(this.#accepted),
      deferred: rangesOf(this.#deferred),
      refused: this.#refused.map(({ run, first, last, reason, detail }) =>
        create(RefusalSchema, { range: rangeOf(run, first, last), reason, detail }),
      ),
      storeEpoch,
      epochAgeMs: Math.min(MAX_AGE_MS, epochAgeMs),
      windowBytes: this.#windowBytes,
      backfillWindowBytes,
      backfillOpen: store.backfillOpen,
    });
    this.#accepted.clear();
    this.#deferred.clear();
    this.#refused.length = 0;
    return ack;
  }

  #ranges(): number {
    let count = 0;
    for (const sets of [this.#accepted, this.#deferred])
      for (const { ranges } of sets.values()) count += ranges.length;
    return count;
  }

  /** One entry for neighbours that were refused for one reason: a day of backlog that is too old is one line. */
  #refuse(run: number, first: number, last: number, reason: string, detail: string): void {
    const before = this.#refused.at(-1);
    if (before && before.run === run && before.reason === reason && before.last + 1 === first)
      before.last = last;
    else this.#refused.push({ run, first, last, reason, detail });
  }
}

function setOf(sets: Map<number, RangeSet>, run: number): RangeSet {
  let set = sets.get(run);
  if (!set) {
    set = new RangeSet();
    sets.set(run, set);
  }
  return set;
}

function rangesOf(sets: Map<number, RangeSet>): Range[] {
  return [...sets].flatMap(([run, set]) => set.ranges.map(({ first, last }) => rangeOf(run, first, last)));
}

function rangeOf(run: number, first: number, last: number): Range {
  return create(RangeSchema, { run, first: BigInt(first), last: BigInt(last) });
}
