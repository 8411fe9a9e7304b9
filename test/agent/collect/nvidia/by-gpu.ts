import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import type { Reading } from '../../../../agent/collect/collector.ts';

/** Series of one GPU, `name{label=value}` without what identifies the GPU, to a value or the name of a state. */
export type GpuReading = Record<string, number | string>;

const IDENTITY = new Set(['gpu', 'uuid', 'model']);

/** A reading without the source's own series, by GPU (index and UUID); what belongs to no GPU under ''. */
export function byGpu({ dictionary, states, values }: Reading): Record<string, GpuReading> {
  const gpus: Record<string, GpuReading> = {};
  dictionary.series.forEach(({ name, labels }, slot) => {
    if (labels.some(([label]) => label === 'source')) return;
    const of = (wanted: string) => labels.find(([label]) => label === wanted)?.[1];
    const owner = [of('gpu'), of('uuid') ?? of('UUID')].filter((part) => part !== undefined).join(' ');
    const rest = labels
      .filter(([label]) => !IDENTITY.has(label))
      .map(([label, value]) => `${label}=${value}`);
    const state = states[slot]! as SlotState;
    const shown = state === SlotState.Present ? values[slot]! : SLOT_STATE_NAMES.get(state)!;
    gpus[owner] ??= {};
    gpus[owner][rest.length === 0 ? name : `${name}{${rest.join(',')}}`] = shown;
  });
  return gpus;
}

/** As `byGpu`, and all states that are no value listed under their name: small enough to be checked in. */
export function condensed(reading: Reading): Record<string, GpuReading | Record<string, string[]>> {
  return Object.fromEntries(
    Object.entries(byGpu(reading)).map(([owner, series]) => {
      const values: GpuReading = {};
      const states: Record<string, string[]> = {};
      for (const [key, value] of Object.entries(series)) {
        if (typeof value === 'number') values[key] = value;
        else states[value] = [...(states[value] ?? []), key];
      }
      return [owner, { ...values, ...states } as GpuReading];
    }),
  );
}

/** What the source says of its own last read, `up` and its like. */
export function ownOf({ dictionary, values }: Reading): Record<string, number> {
  return Object.fromEntries(
    dictionary.series.flatMap(({ name, labels }, slot) =>
      labels.some(([label]) => label === 'source') ? [[name, values[slot]!]] : [],
    ),
  );
}

/** What a reading has, as `newValues` compares it. `nameOf` may leave out labels, where damage to one changes others. */
export function valuesOf(reading: Reading, nameOf = (key: string) => key): Set<string> {
  const known = new Set<string>();
  for (const series of Object.values(byGpu(reading)))
    for (const [key, value] of Object.entries(series))
      if (typeof value === 'number' && !key.includes('_info')) known.add(`${nameOf(key)} ${value}`);
  return known;
}

/** Values that the whole input does not give at that series of any GPU: what damage made up, or what was damaged. */
export function newValues(
  known: ReadonlySet<string>,
  after: Reading,
  nameOf = (key: string) => key,
): string[] {
  return [...valuesOf(after, nameOf)].filter((value) => !known.has(value));
}
