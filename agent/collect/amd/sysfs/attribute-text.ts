import { SlotState } from '#shared/model/slot-state.ts';
import type { Miss } from '../gpu-table.ts';
import { type GpuMetrics, readGpuMetrics } from './gpu-metrics.ts';

/** A number as the file has it, why there is none, or that it is not what such a file says. */
export type Item = { readonly value: number } | { readonly miss: Miss } | 'malformed';

const NOT_SUPPORTED: Item = { miss: SlotState.NotSupported };
const BLANK: Item = { miss: SlotState.Blank };

/** Reads the items of one file; called once for each read, then once for each item. */
export type Parser = (content: Buffer) => (item: string) => Item;

/** `42\n`, `0x1f\n`; also `16.0 GT/s PCIe`, `Unknown`, `Unknown speed`. */
export const parseNumber: Parser = (content) => {
  const text = content.toString('latin1').trim();
  const match = /^(-?\d{1,20}(?:\.\d{1,6})?)(?: GT\/s(?: PCIe)?)?$/.exec(text);
  const item: Item = match
    ? { value: Number(match[1]) }
    : /^(unknown.*|n\/a)$/i.test(text)
      ? BLANK
      : 'malformed';
  return () => item;
};

/**
 * pp_dpm_sclk: one line a level, the one in use with a star; `S:` is deep sleep.
 *
 *     S: 19Mhz *
 *     0: 500Mhz
 *     1: 2100Mhz
 */
export const parseLevels: Parser = (content) => {
  const levels = [...content.toString('latin1').matchAll(/^(?:\d{1,2}|S): ?(\d{1,6})M[hH]z ?(\*?)$/gm)];
  const current = levels.find(([, , star]) => star === '*')?.[1];
  const highest = levels.length === 0 ? undefined : Math.max(...levels.map(([, mhz]) => Number(mhz)));
  return (item) => {
    if (levels.length === 0) return content.length === 0 ? NOT_SUPPORTED : 'malformed';
    const mhz = item === '*' ? current : highest;
    return mhz === undefined ? BLANK : { value: Number(mhz) };
  };
};

/** ras/umc_err_count: `ue: 0\nce: 5\n`, on newer drivers also `de: 0\n`. */
export const parseRasCounts: Parser = (content) => {
  const text = content.toString('latin1');
  const readable = /^[a-z]{2}: \d/m.test(text);
  return (item) => {
    const count = new RegExp(`^${item}: (\\d{1,19})$`, 'm').exec(text)?.[1];
    if (count !== undefined) return { value: Number(count) };
    return readable ? NOT_SUPPORTED : 'malformed';
  };
};

/**
 * ras/gpu_vram_bad_pages: `0x00000001 : 0x00001000 : R`, page, size, and R reserved, P to be reserved, F could not be
 * reserved. The last two are still in use.
 */
export const parseBadPages: Parser = (content) => {
  const lines = content
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '');
  const flags = lines.map((line) => /^0x[0-9a-f]+ : 0x[0-9a-f]+ : ([RPF])$/.exec(line)?.[1]);
  return (item) => {
    if (flags.includes(undefined)) return 'malformed';
    return { value: flags.filter((flag) => (flag === 'R') === (item === 'retired')).length };
  };
};

export const parseMetrics: Parser = (content) => {
  const metrics: GpuMetrics | undefined = readGpuMetrics(content);
  return (item) => {
    const value = metrics?.get(item);
    if (value === undefined) return NOT_SUPPORTED;
    return Number.isNaN(value) ? BLANK : { value };
  };
};
