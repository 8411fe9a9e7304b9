import type { AmdKey } from '#shared/catalogue/amd.ts';
import { fact, uuidOf } from '../gpu-identity.ts';
import { at, isObject, type Json, parseToolJson, readJsonValue } from '../json-value.ts';
import type { ListedGpu } from '../listed-gpus.ts';

/** One command's JSON by GPU index, and what in it was no GPU. */
export interface SmiDocument {
  readonly gpus: ReadonlyMap<string, Json>;
  readonly malformed: number;
}

const INDEX = /^\d{1,4}$/;

/**
 * ROCm 5.7 and 6 print a bare array, ROCm 7 wraps it: `{"gpu_data": [{"gpu": 0, ...}]}`. Undefined where the output
 * is neither.
 */
export function parseAmdSmi(output: Buffer): SmiDocument | undefined {
  const json = parseToolJson(output);
  const list = isObject(json) ? json.gpu_data : json;
  if (!Array.isArray(list)) return undefined;
  const gpus = new Map<string, Json>();
  let malformed = 0;
  for (const one of list as readonly Json[]) {
    const index = isObject(one) ? String(one.gpu) : '';
    if (INDEX.test(index) && !gpus.has(index)) gpus.set(index, one);
    else malformed++;
  }
  return { gpus, malformed };
}

const STATIC = 'static:';

/** The GPUs of `metric`, with what `static` says of them. */
export function listGpus(metric: SmiDocument, statics: SmiDocument): ListedGpu[] {
  return [...metric.gpus].map(([gpu, tree]) => {
    const fixed = statics.gpus.get(gpu);
    const text = (path: string): string | undefined => fact(at(fixed, path));
    return {
      identity: {
        gpu,
        uuid: uuidOf(at(fixed, 'asic.asic_serial')),
        model: text('asic.market_name') ?? text('board.product_name') ?? 'AMD GPU',
      },
      facts: {
        vendor: 'amd',
        pci_bus_id: text('bus.bdf')?.toLowerCase(),
        serial: text('board.product_serial'),
        product_number: text('board.model_number'),
        vbios_version: text('vbios.version') ?? text('ifwi.version'),
        driver_version: text('driver.version'),
        compute_partition: text('partition.compute_partition') ?? text('partition.accelerator_partition'),
        memory_partition: text('partition.memory_partition'),
      },
      find: ({ key, unit }: AmdKey, base: string) => {
        const isStatic = key.startsWith(STATIC);
        const value = at(isStatic ? fixed : tree, isStatic ? key.slice(STATIC.length) : key);
        return value === undefined ? undefined : readJsonValue(value, unit, base);
      },
    };
  });
}
