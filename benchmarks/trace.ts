import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type DcgmField, dcgmField, toCanonical } from '#shared/catalogue/dcgm.ts';
import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { BenchOptions } from './bench-case.ts';

/** One node's ticks, all slots present. */
export interface Trace {
  readonly name: string;
  readonly dictionary: Dictionary;
  readonly timestamps: Float64Array;
  /** One row for each tick. */
  readonly rows: readonly Float64Array[];
}

/** The reference trace at `interval` (1s or 10s), or one of our own making where it is not there. */
export function loadTrace(interval: '1s' | '10s', { dataDir, log, seed, tiny }: BenchOptions): Trace {
  const folder = dataDir && join(dataDir, 'reference-trace');
  const intervalMs = interval === '1s' ? 1_000 : 10_000;
  if (!folder || !existsSync(join(folder, 'fields.csv'))) {
    log(
      `no reference trace in GPUFLEET_DATA (${dataDir ?? 'not found'}): a synthetic one is used, figures cannot be compared`,
    );
    return syntheticTrace(intervalMs, seed, tiny ? 20 : 600);
  }
  const fields = new Map<string, { kind: Kind; decimals: number }>();
  for (const line of readFileSync(join(folder, 'fields.csv'), 'utf8').trim().split('\n').slice(1)) {
    const [field, type, decimals] = line.split(',');
    fields.set(field!, { kind: type === 'counter' ? 'counter' : 'gauge', decimals: Number(decimals) });
  }
  const lines = gunzipSync(readFileSync(join(folder, `trace_${interval}.csv.gz`)))
    .toString()
    .trim()
    .split('\n');
  const columns = lines[0]!.split(',').slice(1);
  const ticks = lines.slice(1, tiny ? 21 : undefined).map((line) => line.split(',').map(Number));
  const rows = ticks.map((tick) => Float64Array.from(tick.slice(1)));
  const mapped = columns.map((column, slot) => canonicalField(column.split('/')[0]!, rows, slot));
  for (const row of rows) {
    for (const [slot, field] of mapped.entries()) if (field) row[slot] = toCanonical(field, row[slot]!);
  }
  return {
    name: `reference-trace ${interval}`,
    dictionary: traceDictionary(columns, fields, mapped, intervalMs),
    timestamps: Float64Array.from(ticks, (tick) => tick[0]!),
    rows,
  };
}

/**
 * Canonical names and values, so that health and rules find what they look at. A column that holds something else than
 * its field says, as the trace's performance states do, keeps its own name.
 */
function canonicalField(name: string, rows: readonly Float64Array[], slot: number): DcgmField | undefined {
  const field = dcgmField(name);
  if (field === undefined) return undefined;
  const { min, max } = field.metric;
  const fits = rows.every((row) => {
    const value = toCanonical(field, row[slot]!);
    return value >= min && value <= max;
  });
  return fits ? field : undefined;
}

function traceDictionary(
  columns: readonly string[],
  fields: Map<string, { kind: Kind; decimals: number }>,
  canonical: readonly (DcgmField | undefined)[],
  intervalMs: number,
): Dictionary {
  return createDictionary(
    'trace',
    intervalMs,
    columns.map((column, slot) => {
      const [field, gpu] = column.split('/');
      const mapped = canonical[slot];
      const { kind, decimals: written } = fields.get(field!)!;
      // The same integers on the wire, whatever the unit.
      const decimals = mapped === undefined ? written : written + powerOfTen(mapped);
      const labels = [...gpuLabels(gpu!), ...(mapped?.labels ?? [])].sort(byName);
      return { name: mapped?.metric.name ?? field!, labels, kind, decimals, help: '', unit: '' };
    }),
  );
}

/** How many decimals more the canonical unit needs; bytes of mebibytes have none, and as many digits more. */
function powerOfTen({ divide, multiply }: DcgmField): number {
  const power = Math.log10(divide) - Math.log10(multiply);
  return Number.isInteger(power) ? power : 0;
}

/** Same mix of kinds as the reference trace: noise, drift, steps, counters, constants. */
function syntheticTrace(intervalMs: number, seed: number, ticks: number): Trace {
  const kinds = ['noise', 'drift', 'counter', 'constant', 'ratio'] as const;
  let state = seed >>> 0 || 1;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const slots = Array.from({ length: 400 }, (_, i) => kinds[i % kinds.length]!);
  const dictionary = createDictionary(
    'trace',
    intervalMs,
    slots.map((kind, i) => ({
      name: `m_${kind}`,
      labels: [...gpuLabels(String(i % 8)), ['slot', String(i)] as const].sort(byName),
      kind: kind === 'counter' ? 'counter' : 'gauge',
      decimals: kind === 'ratio' ? 6 : 0,
      help: '',
      unit: '',
    })),
  );
  const row = new Float64Array(slots.length);
  const rows = Array.from({ length: ticks }, () => {
    slots.forEach((kind, i) => {
      if (kind === 'noise') row[i] = Math.round(random() * 5_000);
      else if (kind === 'drift') row[i] = row[i]! + Math.round(random() * 2 - 1);
      else if (kind === 'counter') row[i] = row[i]! + 1_000_000 + Math.round(random() * 50_000);
      else if (kind === 'ratio') row[i] = Math.round(random() * 1e6) / 1e6;
    });
    return row.slice();
  });
  const timestamps = Float64Array.from(
    { length: ticks },
    (_, i) => 1_780_000_000_000 + i * intervalMs + Math.round(random()),
  );
  return { name: 'synthetic trace', dictionary, timestamps, rows };
}

const byName = ([a]: readonly [string, string], [b]: readonly [string, string]): number => (a < b ? -1 : 1);

function gpuLabels(gpu: string): (readonly [string, string])[] {
  return [
    ['gpu', gpu],
    ['model', 'NVIDIA H100 80GB HBM3'],
    ['uuid', `GPU-00000000-0000-0000-0000-${gpu.padStart(12, '0')}`],
  ];
}
