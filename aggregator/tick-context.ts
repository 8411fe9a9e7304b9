import type { AssetBook } from './enrich/asset-book.ts';
import type { Context } from './publish/enriched-tick.ts';

/** What enriched ticks say of a node or a GPU from the inventory; undefined where nothing is known. */
export function tickContext(book: AssetBook): Context {
  return (source, gpu, uuid) => {
    if (gpu !== '' || uuid !== '') return known(gpuContext(book, source, gpu, uuid));
    const { pool, rack, pdu, coolingZone, switches, row, datacenter } = book.assetOf(source);
    return known({
      pool,
      rack,
      pdu: list(pdu),
      cooling_zone: coolingZone,
      switches: list(switches),
      row,
      datacenter,
    });
  };
}

function gpuContext(book: AssetBook, ...[source, gpu, uuid]: Parameters<Context>) {
  const asset = book.gpuAssetOf(source, gpu, uuid);
  if (!asset) return {};
  const { serial, firmware, purchasedMs, warrantyEndMs, repairs } = asset;
  return {
    serial,
    firmware,
    purchased: day(purchasedMs),
    warranty_end: day(warrantyEndMs),
    repairs: repairs.length === 0 ? undefined : String(repairs.length),
    last_repair: day(repairs.at(-1)?.atMs),
  };
}

function known(context: Readonly<Record<string, string | undefined>>): Record<string, string> | undefined {
  const entries = Object.entries(context).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

function list(names: readonly string[]): string | undefined {
  return names.length === 0 ? undefined : names.join(',');
}

function day(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString().slice(0, 10);
}
