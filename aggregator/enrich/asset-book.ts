import { readFile, stat } from 'node:fs/promises';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Source } from '#shared/model/block.ts';
import type { AssetEntries, AssetFault, GpuAsset, NodeAsset } from './asset.ts';
import { MAX_CSV_BYTES, parseAssetCsv } from './asset-csv.ts';
import { AssetIndex } from './asset-index.ts';
import { MAX_YAML_BYTES, parseAssetYaml } from './asset-yaml.ts';

/** Faults that are named; the rest is a number. */
const MAX_NAMED = 20;

/** What several nodes may share. */
export type AssetLevel = 'switch' | 'pdu' | 'rack' | 'cooling_zone' | 'row' | 'pool' | 'datacenter';

export type AssetGroups = Readonly<Record<AssetLevel, readonly string[]>>;

export type AssetReload =
  | { readonly ok: true; readonly nodes: number; readonly gpus: number }
  /** The assets of before still hold. */
  | { readonly ok: false; readonly why: string };

interface Known {
  readonly asset: NodeAsset;
  readonly groups: AssetGroups;
}

/**
 * The inventory: which pool, rack, PDU, cooling zone and switches a node has, and the history of a GPU. Without a file
 * the external labels of a node's agent stand in (`pool`, `rack`, `pdu`, `cooling_zone`, `switch`, `row`, `datacenter`).
 * A node is matched once: what was found is kept with its stream, and goes with it.
 */
export class AssetBook {
  readonly #file: string | undefined;
  #index = AssetIndex.empty;
  #known = new WeakMap<Source, Known>();
  #reloading: Promise<AssetReload> | undefined;

  private constructor(file: string | undefined) {
    this.#file = file;
  }

  /** Throws `invalid_config` with every fault, where the file cannot be used: a start is when somebody looks. */
  static async open(file: string | undefined): Promise<AssetBook> {
    const book = new AssetBook(file);
    if (file !== undefined) book.#index = await readAssets(file);
    return book;
  }

  /** Entries of the file in use. */
  get size(): { readonly nodes: number; readonly gpus: number } {
    return { nodes: this.#index.nodes, gpus: this.#index.gpus };
  }

  /** Reads the file again. Never rejects: a file that is wrong changes nothing. Calls at the same time are one. */
  async reload(): Promise<AssetReload> {
    this.#reloading ??= this.#readAgain().finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  assetOf(source: Source): NodeAsset {
    return this.#knownOf(source).asset;
  }

  groupsOf(source: Source): AssetGroups {
    return this.#knownOf(source).groups;
  }

  poolOf(source: Source): string | undefined {
    return this.#knownOf(source).asset.pool;
  }

  /** By UUID, serial, or node and index; empty texts for what is not known. */
  gpuAssetOf(source: Source, gpu: string, uuid: string, serial = ''): GpuAsset | undefined {
    return this.#index.gpuAsset(source.cluster, source.node, gpu, uuid, serial);
  }

  #knownOf(source: Source): Known {
    let known = this.#known.get(source);
    if (known === undefined) {
      const asset = this.#index.nodeAsset(source.cluster, source.node, source.externalLabels);
      known = { asset, groups: groupsOf(asset) };
      this.#known.set(source, known);
    }
    return known;
  }

  async #readAgain(): Promise<AssetReload> {
    try {
      if (this.#file !== undefined) {
        this.#index = await readAssets(this.#file);
        this.#known = new WeakMap();
      }
      return { ok: true, ...this.size };
    } catch (error) {
      return { ok: false, why: error instanceof Error ? error.message : describeError(error) };
    }
  }
}

/** A file that ends in .csv is a table, any other is YAML. */
async function readAssets(file: string): Promise<AssetIndex> {
  const table = file.toLowerCase().endsWith('.csv');
  const most = table ? MAX_CSV_BYTES : MAX_YAML_BYTES;
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > most) {
      const advice = table ? '' : ': a large inventory is a table, in a file that ends in .csv';
      throw new FleetError('invalid_config', `it is larger than ${most} bytes${advice}`);
    }
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read assets ${file}: ${describeError(error)}`, {
      cause: error,
    });
  }
  const faults: AssetFault[] = [];
  const entries: AssetEntries = await (table ? parseAssetCsv : parseAssetYaml)(text, faults);
  const index = await AssetIndex.of(entries, faults);
  if (faults.length > 0) throw assetError(file, faults);
  return index;
}

function assetError(file: string, faults: readonly AssetFault[]): FleetError {
  const lines = faults.slice(0, MAX_NAMED).map(({ line, path, message }) => {
    const where = line > 0 ? `${file}:${line}` : file;
    return `  ${where}: ${path}: ${message}`;
  });
  if (faults.length > MAX_NAMED) lines.push(`  and ${faults.length - MAX_NAMED} more`);
  const count = `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`;
  return new FleetError('invalid_config', `Cannot use assets ${file}: ${count}\n${lines.join('\n')}`);
}

function groupsOf({ switches, pdu, rack, coolingZone, row, pool, datacenter }: NodeAsset): AssetGroups {
  const one = (name: string | undefined): readonly string[] => (name === undefined ? [] : [name]);
  return {
    switch: switches,
    pdu,
    rack: one(rack),
    cooling_zone: one(coolingZone),
    row: one(row),
    pool: one(pool),
    datacenter: one(datacenter),
  };
}
