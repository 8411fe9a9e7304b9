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

/** Refusals that wait; beyond it an acknowledgement goes at once. */
const MAX_REFUSALS = 100;
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
  readonly #refused: { run: number; sequence: number; reason: string; detail: string }[] = [];
  #epoch = 0n;

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  get isEmpty(): boolean {
    return this.#accepted.size === 0 && this.#deferred.size === 0 && this.#refused.length === 0;
  }

  /** True where what is collected must be sent before this outcome can be added. */
  mustSendBefore(outcome: Outcome): boolean {
    if (outcome.state === 'accepted') return this.#accepted.size > 0 && outcome.epoch !== this.#epoch;
    return this.#refused.length >= MAX_REFUSALS;
  }

  add(run: number, sequence: number, outcome: Outcome): void {
    switch (outcome.state) {
      case 'accepted':
        this.#epoch = outcome.epoch;
        setOf(this.#accepted, run).add(sequence);
        break;
      case 'deferred':
        setOf(this.#deferred, run).add(sequence);
        break;
      case 'refused':
        this.#refused.push({ run, sequence, reason: outcome.reason, detail: outcome.detail });
        break;
    }
  }

  /** The message for all of it, and an empty box. Without an accepted record it carries the newest incarnation. */
  take(store: StoreStatus): Ack {
    const storeEpoch = this.#accepted.size > 0 ? this.#epoch : store.epoch;
    // When an incarnation that is over was last read is not known any more: that makes nothing durable.
    const epochAgeMs = storeEpoch === store.epoch ? Math.max(0, Math.round(store.epochAgeMs)) : MAX_AGE_MS;
    const ack = create(AckSchema, {
      accepted: rangesOf(this.#accepted),
      deferred: rangesOf(this.#deferred),
      refused: this.#refused.map(({ run, sequence, reason, detail }) =>
        create(RefusalSchema, { range: rangeOf(run, sequence, sequence), reason, detail }),
      ),
      storeEpoch,
      epochAgeMs: Math.min(MAX_AGE_MS, epochAgeMs),
      windowBytes: this.#windowBytes,
      backfillOpen: store.backfillOpen,
    });
    this.#accepted.clear();
    this.#deferred.clear();
    this.#refused.length = 0;
    return ack;
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
