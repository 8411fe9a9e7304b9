import type { AmdKey } from '#shared/catalogue/amd.ts';
import type { Converted } from '../amd-unit.ts';
import { toBase } from '../amd-unit.ts';
import { fact, uuidOf } from '../gpu-identity.ts';
import { isObject, type Json, parseToolJson, readJsonValue } from '../json-value.ts';
import type { ListedGpu } from '../listed-gpus.ts';

/** `1 (16.0GT/s x16)` */
const PCIE_LEVEL = /\((\d{1,3}(?:\.\d)?)GT\/s x(\d{1,2})\)$/;
/** The older releases print the vendor's number in the place of every name. */
const NUMBER_FOR_NAME = /^0x[0-9a-f]+$/i;

/**
 * `rocm-smi --json`: an object by `card<n>`, beside it `system`. Keys are sentences that differ by release in case,
 * words and a colon at the end; values are text. Undefined where the output is no such object.
 *
 *     {"card0": {"Temperature (Sensor edge) (C)": "45.0", "sclk clock speed:": "(500Mhz)", ...}, "system": {...}}
 */
export function parseRocmSmi(output: Buffer): { gpus: ListedGpu[]; malformed: number } | undefined {
  const json = parseToolJson(output);
  if (!isObject(json)) return undefined;
  const driver = isObject(json.system) ? fact(json.system['Driver version']) : undefined;
  const gpus: ListedGpu[] = [];
  let malformed = 0;
  for (const [name, card] of Object.entries(json)) {
    const gpu = /^card(\d{1,4})$/.exec(name)?.[1];
    if (gpu !== undefined && isObject(card)) gpus.push(listed(gpu, normalised(card), driver));
    else if (name !== 'system') malformed++;
  }
  return { gpus, malformed };
}

function normalised(card: { readonly [key: string]: Json }): ReadonlyMap<string, Json> {
  const fields = new Map<string, Json>();
  for (const [name, value] of Object.entries(card)) {
    const key = name.trim().replace(/:$/, '').toLowerCase();
    if (!fields.has(key)) fields.set(key, value);
  }
  return fields;
}

function listed(gpu: string, fields: ReadonlyMap<string, Json>, driver: string | undefined): ListedGpu {
  const text = (...keys: string[]): string | undefined =>
    keys.map((key) => fact(fields.get(key))).find((found) => found !== undefined);
  const name = ['card series', 'device name', 'card model']
    .map((key) => text(key))
    .find((found) => found !== undefined && !NUMBER_FOR_NAME.test(found));
  return {
    identity: {
      gpu,
      uuid: uuidOf(fields.get('unique id')),
      model: name ?? `AMD GPU ${text('device id', 'gpu id') ?? ''}`.trim(),
    },
    facts: {
      vendor: 'amd',
      pci_bus_id: text('pci bus')?.toLowerCase(),
      serial: text('serial number'),
      product_number: text('card sku'),
      vbios_version: text('vbios version'),
      driver_version: driver,
    },
    find: ({ key, unit }: AmdKey, base: string) => {
      const value = fields.get(key);
      if (value === undefined) return undefined;
      if (key === 'pcie clock level') return pcieLevel(value, unit, base);
      return readJsonValue(value, unit, base);
    },
  };
}

function pcieLevel(value: Json, unit: string, base: string): Converted {
  const level = typeof value === 'string' ? PCIE_LEVEL.exec(value) : null;
  if (level) return toBase(Number(unit === 'lanes' ? level[2] : level[1]), unit, base);
  return fact(value) === undefined ? 'blank' : 'malformed';
}
