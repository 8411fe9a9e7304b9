import type { Block, Source } from '#shared/model/block.ts';
import { type Dictionary, type Labels, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { isoTime } from './rejected-message.ts';
import type { TickPlan } from './tick-plan.ts';

/** What is known of a GPU, or with an empty `gpu` and `uuid` of the node, beside its labels: rack, slot, serial ... */
export type Context = (
  source: Source,
  gpu: string,
  uuid: string,
) => Readonly<Record<string, string>> | undefined;

/** Series with the same labels. */
interface LabelSet {
  readonly gpu: string;
  readonly uuid: string;
  /** `"labels":{...}` */
  readonly head: string;
  /** Of each series: its slot in the block, and `"name":`. */
  readonly slots: readonly number[];
  readonly keys: readonly string[];
}

/** A message has at most so many characters, half of what nats-server takes: a tick of more is several messages. */
const MAX_PART = 500_000;

const compiled = new WeakMap<Dictionary, readonly LabelSet[]>();

/**
 * The JSON of a tick for readers that know nothing of frames: values by metric, once for each set of labels, each
 * set with its asset context. Slots without a value are left out. A large tick is several texts, each complete in
 * itself.
 */
export function enrichedTick(plan: TickPlan, block: Block, context: Context): string[] {
  const { source, timestampMs, dictionary, values, states } = block;
  const head = `{"cluster":${JSON.stringify(source.cluster)},"node":${JSON.stringify(source.node)},"external_labels":${JSON.stringify(Object.fromEntries(source.externalLabels))},"asset":${JSON.stringify(context(source, '', '') ?? {})},"source":${JSON.stringify(dictionary.group)},"interval_ms":${dictionary.intervalMs},"time":"${isoTime(timestampMs)}","series":[`;
  const parts: string[] = [];
  let text = head;
  for (const set of labelSetsOf(plan)) {
    const body = valuesOf(set, values, states);
    if (body === '') continue;
    const asset = set.gpu === '' && set.uuid === '' ? undefined : context(source, set.gpu, set.uuid);
    const entry = `{${set.head}${asset ? `,"asset":${JSON.stringify(asset)}` : ''},"values":{${body}}}`;
    if (text.length > head.length && text.length + entry.length > MAX_PART) {
      parts.push(`${text}]}`);
      text = head;
    }
    text += text.length > head.length ? `,${entry}` : entry;
  }
  if (text.length > head.length) parts.push(`${text}]}`);
  return parts;
}

function valuesOf({ slots, keys }: LabelSet, values: Float64Array, states: Uint8Array): string {
  let text = '';
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    if (states[slot] !== SlotState.Present) continue;
    const value = values[slot]!;
    text += `${text === '' ? '' : ','}${keys[i]!}${Number.isFinite(value) ? value : `"${value}"`}`;
  }
  return text;
}

function labelSetsOf({ dictionary, slots }: TickPlan): readonly LabelSet[] {
  let sets = compiled.get(dictionary);
  if (!sets) {
    const byLabels = Map.groupBy(
      dictionary.series.map((series, i) => ({ ...series, slot: slots ? slots[i]! : i })),
      ({ labels }) => JSON.stringify(labels),
    );
    sets = [...byLabels.values()].map((all) => labelSet(all[0]!.labels, all));
    compiled.set(dictionary, sets);
  }
  return sets;
}

function labelSet(
  labels: Labels,
  all: readonly { readonly name: string; readonly slot: number }[],
): LabelSet {
  return {
    gpu: labelOf(labels, 'gpu') ?? '',
    uuid: labelOf(labels, 'uuid') ?? '',
    head: `"labels":${JSON.stringify(Object.fromEntries(labels))}`,
    slots: all.map(({ slot }) => slot),
    keys: all.map(({ name }) => `${JSON.stringify(name)}:`),
  };
}
