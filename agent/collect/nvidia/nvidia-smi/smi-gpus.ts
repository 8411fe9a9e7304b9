import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../../canonical-series.ts';
import type { ReadingTable } from '../../reading-table.ts';
import { migFields, type SmiField, smiFields } from './smi-fields.ts';
import { MAX_GPUS, type SmiGpu, type SmiReport } from './smi-report.ts';
import { refusalOf } from './smi-value.ts';

/** A GPU that was listed at least once. */
interface KnownGpu {
  /** The last that was said of it. */
  gpu: SmiGpu;
  present: boolean;
  /** By place in smiFields: the field has had a value, so that N/A is not for ever. */
  readonly had: Uint8Array;
}

/**
 * The GPUs of a node as series: all that were ever listed in this run, so that a lost one stays visible as lost, at
 * most MAX_GPUS. Series of MIG instances come and go with them.
 */
export class SmiGpus {
  readonly #known = new Map<string, KnownGpu>();
  #signature = '';
  #series: readonly Series[] = [];

  /** Takes over what a report says. What it does not list is gone until it is listed again. */
  update(report: SmiReport, table: ReadingTable): void {
    // A report with damaged rows may lack a GPU that is there: it keeps what is known of it, without values.
    for (const known of this.#known.values()) known.present = false;
    for (const gpu of report.gpus) {
      const known = this.#known.get(gpu.uuid);
      if (known) Object.assign(known, { gpu, present: true });
      else if (this.#known.size < MAX_GPUS)
        this.#known.set(gpu.uuid, { gpu, present: true, had: new Uint8Array(smiFields.length) });
      else table.reject('series_limit');
    }
    this.#plan();
    table.plan(this.#series);
  }

  get size(): number {
    return this.#known.size;
  }

  get all(): SmiGpu[] {
    return [...this.#known.values()].map(({ gpu }) => gpu);
  }

  /** Fills the table in the order of the plan. */
  fill(table: ReadingTable, isLost: (uuid: string) => boolean): void {
    let slot = 0;
    for (const { gpu, present, had } of this.#known.values()) {
      const lost = isLost(gpu.uuid);
      if (present || lost) {
        table.put(slot, 1);
        table.put(slot + 1, lost ? 0 : 1);
      }
      slot += 2;
      gpu.texts.forEach((text, i) => {
        if (text === undefined) return;
        if (lost) table.miss(slot, SlotState.GpuLost);
        else if (present) had[i] = Math.max(had[i]!, take(table, slot, smiFields[i]!, text, had[i] === 1));
        slot++;
      });
      for (const { texts } of gpu.instances) {
        texts.forEach((text, i) => {
          if (text === undefined) return;
          if (lost) table.miss(slot, SlotState.GpuLost);
          else if (present) take(table, slot, migFields[i]!, text, false);
          slot++;
        });
      }
    }
  }

  #plan(): void {
    const signature = JSON.stringify(
      this.all.map(({ texts, instances, ...identity }) => [
        identity,
        texts.map((text) => text !== undefined),
        instances.map(({ migId, texts: ofInstance }) => [
          migId,
          ofInstance.map((text) => text !== undefined),
        ]),
      ]),
    );
    if (signature === this.#signature) return;
    this.#signature = signature;
    this.#series = this.all.flatMap(seriesOf);
  }
}

/** 1 where there was a value. */
function take(table: ReadingTable, slot: number, { read }: SmiField, text: string, had: boolean): 0 | 1 {
  const refusal = refusalOf(text);
  if (refusal !== undefined) {
    // N/A of a field that this GPU had a moment ago: it has it, and said nothing.
    table.miss(slot, refusal === SlotState.NotSupported && had ? SlotState.Blank : refusal);
    return 0;
  }
  const value = read(text);
  if (Number.isNaN(value)) {
    table.reject('malformed');
    return 0;
  }
  table.put(slot, value);
  return 1;
}

function seriesOf({ uuid, index, model, facts, texts, instances }: SmiGpu): Series[] {
  const identity = { gpu: index, uuid, model };
  const of = (fields: readonly SmiField[], given: readonly (string | undefined)[], more = {}): Series[] =>
    fields.flatMap(({ metric, labels }, i) =>
      given[i] === undefined ? [] : [canonicalSeries(metric.name, { ...identity, ...labels, ...more })],
    );
  return [
    canonicalSeries('gpu_info', { ...identity, ...facts, vendor: 'nvidia' }),
    canonicalSeries('gpu_up', identity),
    ...of(smiFields, texts),
    ...instances.flatMap(({ migId, texts: ofInstance }) => of(migFields, ofInstance, { mig_id: migId })),
  ];
}
