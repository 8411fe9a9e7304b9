import type { Registry } from '#shared/instruments/registry.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Dictionary, Labels } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';

/** Prometheus text 0.0.4, or OpenMetrics 1.0. */
export type Format = 'text' | 'openmetrics';

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** One node of this process. `identity` must be sorted and the same object at each call. */
export interface NodeTicks {
  readonly ticks: Iterable<Tick>;
  readonly identity: Labels;
}

interface FamilyHead {
  readonly name: string;
  readonly kind: string;
  readonly help: string;
  readonly unit: string;
}

interface CompiledFamily extends FamilyHead {
  readonly slots: readonly { readonly slot: number; readonly prefix: string }[];
}

interface Family extends FamilyHead {
  readonly lines: string[];
}

const compiled = new WeakMap<
  Dictionary,
  { readonly labels: Labels; readonly families: readonly CompiledFamily[] }
>();

/**
 * The newest tick of each group, with the identity labels that the aggregator adds to the same series, so that both
 * ways give the same names, and the metrics of `registry` after them. Each family stands together, once, whatever
 * the number of sources and nodes that give it. Slots that are not present are left out: a blank is never a zero.
 */
export async function renderMetrics(
  nodes: readonly NodeTicks[],
  registry: Registry | undefined,
  format: Format,
): Promise<string> {
  const families = new Map<string, Family>();
  for (const { ticks, identity } of nodes) for (const tick of ticks) addTick(families, tick, identity);
  if (registry) await addRegistry(families, registry);
  const parts: string[] = [];
  for (const family of families.values()) {
    if (family.lines.length === 0) continue;
    parts.push(format === 'text' ? textHead(family) : openMetricsHead(family, families));
    for (const line of family.lines) parts.push(line);
  }
  if (format === 'openmetrics') parts.push('# EOF\n');
  return parts.join('');
}

function addTick(
  families: Map<string, Family>,
  { dictionary, values, states }: Tick,
  identity: Labels,
): void {
  for (const compiledFamily of familiesOf(dictionary, identity)) {
    const { lines } = familyOf(families, compiledFamily);
    for (const { slot, prefix } of compiledFamily.slots)
      if (states[slot] === SlotState.Present) lines.push(`${prefix} ${showValue(values[slot]!)}\n`);
  }
}

async function addRegistry(families: Map<string, Family>, registry: Registry): Promise<void> {
  for (const metric of await registry.getMetricsAsJSON()) {
    const { name, help, values } = metric;
    const { lines } = familyOf(families, { name, help, kind: String(metric.type), unit: unitOf(name) });
    for (const { labels, value } of values) {
      const pairs = Object.entries(labels).map(([label, text]) => [label, String(text)] as const);
      lines.push(`${prefixOf(name, pairs)} ${showValue(value)}\n`);
    }
  }
}

/** Where two sources tell different things of one name, the first is believed. */
function familyOf(families: Map<string, Family>, { name, kind, help, unit }: FamilyHead): Family {
  let family = families.get(name);
  if (!family) {
    family = { name, kind, help, unit, lines: [] };
    families.set(name, family);
  }
  return family;
}

function familiesOf(dictionary: Dictionary, identity: Labels): readonly CompiledFamily[] {
  const known = compiled.get(dictionary);
  if (known?.labels === identity) return known.families;
  const byName = new Map<string, FamilyHead & { slots: { slot: number; prefix: string }[] }>();
  dictionary.series.forEach(({ name, kind, help, labels }, slot) => {
    let family = byName.get(name);
    if (!family) {
      family = { name, kind, help, unit: unitOf(name), slots: [] };
      byName.set(name, family);
    }
    // A label comes once: what the source says of its own series beats what the configuration adds.
    const own = new Set(labels.map(([label]) => label));
    const all = [...identity.filter(([label]) => !own.has(label)), ...labels];
    family.slots.push({ slot, prefix: prefixOf(name, all) });
  });
  const families = [...byName.values()];
  compiled.set(dictionary, { labels: identity, families });
  return families;
}

function prefixOf(name: string, labels: Labels): string {
  if (labels.length === 0) return name;
  return `${name}{${labels.map(([label, value]) => `${label}="${escapeValue(value)}"`).join(',')}}`;
}

function textHead({ name, kind, help }: FamilyHead): string {
  const helpLine = help === '' ? '' : `# HELP ${name} ${escapeHelp(help)}\n`;
  return `${helpLine}# TYPE ${name} ${kind === 'counter' ? 'counter' : 'gauge'}\n`;
}

/**
 * OpenMetrics names a counter's family without `_total`, and allows no counter without it: one that a vendor named
 * otherwise is of unknown type, so is one whose family would take another's name.
 */
function openMetricsHead(
  { name, kind, help, unit }: FamilyHead,
  families: ReadonlyMap<string, FamilyHead>,
): string {
  const stem = name.endsWith('_total') ? name.slice(0, -TOTAL.length) : name;
  const isCounter = kind === 'counter' && stem !== name && !families.has(stem);
  const family = isCounter ? stem : name;
  const type = isCounter ? 'counter' : kind === 'counter' || name.endsWith(TOTAL) ? 'unknown' : 'gauge';
  const unitLine = unit !== '' && family.endsWith(`_${unit}`) ? `# UNIT ${family} ${unit}\n` : '';
  const helpLine = help === '' ? '' : `# HELP ${family} ${escapeValue(help)}\n`;
  return `# TYPE ${family} ${type}\n${unitLine}${helpLine}`;
}

const TOTAL = '_total';
/** Base units as they end names; the longer one first where one ends another. */
const UNITS = [
  'bytes_per_second',
  'bits_per_second',
  'celsius',
  'watts',
  'joules',
  'volts',
  'hertz',
  'bytes',
  'seconds',
  'ratio',
];

/** The base unit that the name ends in, before `_total`; '' where it has none. */
function unitOf(name: string): string {
  const stem = name.endsWith(TOTAL) ? name.slice(0, -TOTAL.length) : name;
  return UNITS.find((unit) => stem.endsWith(`_${unit}`)) ?? '';
}

function escapeHelp(help: string): string {
  return help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
}

function escapeValue(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

function showValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}
