import { CYCLES } from '#shared/catalogue/amd.ts';
import { type Converted, toBase } from './amd-unit.ts';

/** What a tool's JSON may hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/**
 * The JSON of a tool's output, which may begin with warnings (`WARNING: AMD GPU device(s) is/are in a low-power
 * state`). Undefined where there is none, or it is cut.
 */
export function parseToolJson(output: Buffer): Json | undefined {
  const text = output.toString('utf8');
  for (const line of text.matchAll(/^[ \t]*[[{]/gm)) {
    try {
      return JSON.parse(text.slice(line.index)) as Json;
    } catch {
      // A warning in brackets, perhaps: one more line is tried, and no more.
      if (line.index > 0) return undefined;
    }
  }
  return undefined;
}

export function isObject(json: Json | undefined): json is { readonly [key: string]: Json } {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

/** What a tool says where it has nothing. */
const NOTHING = /^(n\/a|none|not supported|unknown|)$/i;

/** The value at `a.b.c`; what stands in the place of a whole block (`"usage": "N/A"`) is that of all in it. */
export function at(json: Json | undefined, path: string): Json | undefined {
  let current = json;
  for (const step of path.split('.')) {
    if (typeof current === 'string' && NOTHING.test(current.trim())) return current;
    if (!isObject(current) || !Object.hasOwn(current, step)) return undefined;
    current = current[step];
  }
  return current;
}

/**
 * A value as the tools write it: `32`, `{"value": 32, "unit": "GT/s"}`, `"32 GT/s"`, `"(1300Mhz)"`, `"N/A"`. `unit`
 * is that of a bare number, `base` the catalogue's.
 */
export function readJsonValue(json: Json, unit: string, base: string): Converted {
  if (typeof json === 'number') return convert(json, unit, base);
  if (isObject(json) && json.value !== undefined) {
    const own = typeof json.unit === 'string' && json.unit !== '' ? json.unit : unit;
    return typeof json.value === 'object' ? 'malformed' : readJsonValue(json.value, own, base);
  }
  if (typeof json !== 'string') return 'malformed';
  const text = json.trim();
  if (NOTHING.test(text)) return 'blank';
  const match = /^\(?(-?\d{1,20}(?:\.\d{1,9})?)\s?([A-Za-z%°/]{0,5})\)?$/.exec(text);
  return match ? convert(Number(match[1]), match[2] || unit, base) : 'malformed';
}

function convert(value: number, unit: string, base: string): Converted {
  return unit === CYCLES ? value : toBase(value, unit, base);
}
