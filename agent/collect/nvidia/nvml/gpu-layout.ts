import { SlotState } from '#shared/model/slot-state.ts';
import type { NvmlBinding } from './binding.ts';
import { Group, LINK_COUNT_FIELD, MAX_LINKS, type NvmlField, nvmlFields, slotCode } from './fields.ts';
import { GpuReader, type WantedSlot } from './gpu-reader.ts';

const GROUPS: readonly Group[] = [Group.Fast, Group.Slow];

const linkCount: NvmlField = {
  metric: '',
  labels: {},
  group: Group.Slow,
  source: { field: LINK_COUNT_FIELD, scope: 0, perLink: false, ber: false },
  multiply: 1,
  divide: 1,
};

export interface GpuLayout {
  /** By group. */
  readonly readers: readonly GpuReader[];
  /** By group: see slotCode. */
  readonly slots: readonly (readonly number[])[];
}

/**
 * Asks a GPU for everything once, and lays out what it has: each series of the table once, from the first line that
 * is supported. What no line supports keeps its slot, so that people see that it is not supported; of links, whose
 * series would be hundreds, only what some link has. Undefined where
 * the GPU does not answer. Throws ReopenNeeded.
 */
export function layOut(binding: NvmlBinding, device: number): GpuLayout | undefined {
  const links = countLinks(binding, device);
  const asked = nvmlFields.flatMap((field): WantedSlot[] =>
    isPerLink(field) ? Array.from({ length: links }, (_, link) => ({ field, link })) : [{ field, link: -1 }],
  );
  const probe = new GpuReader(binding, asked);
  if (!probe.read(device)) return undefined;
  const supported = new Set<NvmlField>();
  for (const [slot, { field }] of asked.entries())
    if (probe.states[slot] !== SlotState.NotSupported) supported.add(field);
  const chosen = new Set(chooseLines(supported));
  const wanted = asked.filter(({ field }) => chosen.has(field));
  const byGroup = GROUPS.map((group) => wanted.filter(({ field }) => field.group === group));
  return {
    readers: byGroup.map((slots) => new GpuReader(binding, slots)),
    slots: byGroup.map((slots) => slots.map(({ field, link }) => slotCode(nvmlFields.indexOf(field), link))),
  };
}

function chooseLines(supported: ReadonlySet<NvmlField>): NvmlField[] {
  const lines = new Map<string, NvmlField>();
  for (const field of nvmlFields) {
    if (isPerLink(field) && !supported.has(field)) continue;
    const key = JSON.stringify([field.metric, field.labels]);
    const before = lines.get(key);
    if (!before || (!supported.has(before) && supported.has(field))) lines.set(key, field);
  }
  return [...lines.values()];
}

function countLinks(binding: NvmlBinding, device: number): number {
  const reader = new GpuReader(binding, [{ field: linkCount, link: -1 }]);
  const there = reader.read(device) && reader.states[0] === SlotState.Present;
  return there ? Math.min(MAX_LINKS, reader.values[0]!) : 0;
}

function isPerLink({ source }: NvmlField): boolean {
  return 'field' in source && source.perLink;
}
