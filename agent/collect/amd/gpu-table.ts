import type { AmdField } from '#shared/catalogue/amd.ts';
import type { Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import type { Reading, RejectReason } from '../collector.ts';
import { ReadingTable, type ReadingTableOptions } from '../reading-table.ts';
import type { GpuIdentity } from './gpu-identity.ts';

export type Miss = Exclude<SlotState, typeof SlotState.Present>;

/** A GPU and what is to be reported of it. */
export interface PlannedGpu {
  readonly identity: GpuIdentity;
  readonly fields: readonly AmdField[];
  /** Labels of gpu_info besides the identity; undefined: no gpu_info. */
  readonly facts: Readonly<Record<string, string | undefined>> | undefined;
  /** Whether this source says if the GPU is there (gpu_up). */
  readonly presence: boolean;
}

const UNSAID = 255;

/**
 * A ReadingTable by GPU and field, where several places of a source may say the same thing: the first value is
 * taken, and where there is none, the first reason.
 *
 *     plan(gpus)                     when GPUs, fields or facts change
 *     begin()
 *     offer / miss / lost / here     g: index in the plan, i: index in that GPU's fields
 *     finish(events) or failed(state)
 */
export class GpuTable {
  readonly #table: ReadingTable;
  #gpus: readonly PlannedGpu[] = [];
  #key = '';
  /** First slot of each GPU's fields; gpu_info and gpu_up of all GPUs come before. */
  #first: number[] = [];
  #firstOther = 0;
  #upSlots: number[] = [];
  #infoSlots: number[] = [];
  #values = new Float64Array(0);
  #states = new Uint8Array(0);

  constructor(options: ReadingTableOptions) {
    this.#table = new ReadingTable(options);
  }

  get gpus(): readonly PlannedGpu[] {
    return this.#gpus;
  }

  /** `others` are series that are none of a GPU's, or not the catalogue's. */
  plan(gpus: readonly PlannedGpu[], others: readonly Series[] = []): void {
    const key = JSON.stringify([
      others,
      gpus.map(({ identity, fields, facts, presence }) => [
        identity,
        facts,
        presence,
        fields.map((field) => [field.metric.name, field.labels]),
      ]),
    ]);
    this.#gpus = gpus;
    if (key === this.#key) return;
    this.#key = key;
    const series: Series[] = [];
    this.#infoSlots = [];
    this.#upSlots = [];
    this.#first = [];
    const add = (one: Series): number => series.push(one) - 1;
    for (const { identity, facts, presence } of gpus) {
      this.#infoSlots.push(facts ? add(canonicalSeries('gpu_info', { ...facts, ...identity })) : -1);
      this.#upSlots.push(presence ? add(canonicalSeries('gpu_up', { ...identity })) : -1);
    }
    for (const { identity, fields } of gpus) {
      this.#first.push(series.length);
      for (const { metric, labels } of fields) add(canonicalSeries(metric.name, { ...labels, ...identity }));
    }
    this.#firstOther = series.length;
    series.push(...others);
    this.#table.plan(series);
    this.#values = new Float64Array(series.length);
    this.#states = new Uint8Array(series.length).fill(UNSAID);
  }

  begin(): void {
    this.#table.begin();
    this.#states.fill(UNSAID);
  }

  /** In the metric's base unit. */
  offer(g: number, i: number, value: number): void {
    const slot = this.#first[g]! + i;
    if (this.#states[slot] === SlotState.Present) return;
    if (value === 0 && this.#gpus[g]!.fields[i]!.zeroIsBlank) {
      this.#states[slot] = SlotState.Blank;
      return;
    }
    this.#states[slot] = SlotState.Present;
    this.#values[slot] = value;
  }

  /** o: index in the others of the plan. */
  offerOther(o: number, value: number): void {
    const slot = this.#firstOther + o;
    if (this.#states[slot] === SlotState.Present) this.#table.reject('duplicate');
    else this.#say(slot, value);
  }

  miss(g: number, i: number, state: Miss): void {
    const slot = this.#first[g]! + i;
    if (this.#states[slot] === UNSAID) this.#states[slot] = state;
  }

  /** The GPU answers, or is listed. */
  here(g: number): void {
    this.#say(this.#infoSlots[g]!, 1);
    this.#say(this.#upSlots[g]!, 1);
  }

  /** Nothing is known of its fields but `state`; with GpuLost it is down. */
  allMiss(g: number, state: Miss): void {
    const { fields } = this.#gpus[g]!;
    const first = this.#first[g]!;
    this.#states.fill(state, first, first + fields.length);
    if (state === SlotState.GpuLost) {
      this.#say(this.#infoSlots[g]!, 1);
      this.#say(this.#upSlots[g]!, 0);
    }
  }

  reject(reason: RejectReason, count = 1): void {
    this.#table.reject(reason, count);
  }

  finish(events: readonly FleetEvent[]): Reading {
    for (let slot = 0; slot < this.#states.length; slot++) {
      const state = this.#states[slot]! as SlotState;
      if (state === SlotState.Present) this.#table.put(slot, this.#values[slot]!);
      else if ((state as number) !== UNSAID) this.#table.miss(slot, state as Miss);
    }
    return this.#table.finish(events);
  }

  failed(state: Miss, events: readonly FleetEvent[], problem: string): Reading {
    return this.#table.failed(state, events, problem);
  }

  #say(slot: number, value: number): void {
    if (slot < 0) return;
    this.#states[slot] = SlotState.Present;
    this.#values[slot] = value;
  }
}
