import type { Tick } from '#shared/model/block.ts';
import type { Dictionary, Labels } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';

interface Family {
  readonly head: string;
  readonly slots: readonly { readonly slot: number; readonly prefix: string }[];
}

const compiled = new WeakMap<Dictionary, { readonly labels: Labels; readonly families: readonly Family[] }>();

/**
 * The newest tick of each group as Prometheus text, with the identity labels that the aggregator adds to the
 * same series, so that both ways give the same names. Slots that are not present are left out: a blank is never
 * a zero. `identity` must be sorted and the same object at each call.
 */
export function renderTicks(ticks: Iterable<Tick>, identity: Labels): string {
  const parts: string[] = [];
  const seen = new Set<string>();
  for (const { dictionary, values, states } of ticks) {
    for (const { head, slots } of familiesOf(dictionary, identity)) {
      let wroteHead = seen.has(head);
      for (const { slot, prefix } of slots) {
        if (states[slot] !== SlotState.Present) continue;
        if (!wroteHead) parts.push(head);
        wroteHead = true;
        parts.push(`${prefix} ${showValue(values[slot]!)}\n`);
      }
      if (wroteHead) seen.add(head);
    }
  }
  return parts.join('');
}

function familiesOf(dictionary: Dictionary, identity: Labels): readonly Family[] {
  const known = compiled.get(dictionary);
  if (known?.labels === identity) return known.families;
  const byName = new Map<string, { head: string; slots: { slot: number; prefix: string }[] }>();
  dictionary.series.forEach((series, slot) => {
    let family = byName.get(series.name);
    if (!family) {
      family = { head: headOf(series.name, series.kind, series.help), slots: [] };
      byName.set(series.name, family);
    }
    const labels = [...identity, ...series.labels].map(([name, value]) => `${name}="${escapeValue(value)}"`);
    family.slots.push({
      slot,
      prefix: labels.length > 0 ? `${series.name}{${labels.join(',')}}` : series.name,
    });
  });
  const families = [...byName.values()];
  compiled.set(dictionary, { labels: identity, families });
  return families;
}

function headOf(name: string, kind: string, help: string): string {
  const helpLine = help === '' ? '' : `# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n`;
  return `${helpLine}# TYPE ${name} ${kind === 'counter' ? 'counter' : 'gauge'}\n`;
}

function escapeValue(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

function showValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}
