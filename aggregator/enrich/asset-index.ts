import { setImmediate } from 'node:timers/promises';
import type { Labels } from '#shared/model/dictionary.ts';
import { labelOf } from '#shared/model/dictionary.ts';
import {
  type AssetEntries,
  type AssetFault,
  type GpuAsset,
  type GpuEntry,
  MAX_GLOBS,
  type NodeAsset,
  type NodeEntry,
} from './asset.ts';

/** Entries laid out between two looks at the rest of the process. */
const BATCH = 5000;

/** A file's entries, laid out for look-ups. A reload makes a new one. About 500 bytes a GPU. */
export class AssetIndex {
  /** Places of the entries for one name, in the order of the file. */
  readonly #exact = new Map<string, number[]>();
  readonly #globs: number[] = [];
  readonly #nodes: readonly NodeEntry[];
  readonly #byUuid = new Map<string, GpuAsset>();
  readonly #bySerial = new Map<string, GpuAsset>();
  /** By node, with its cluster where it has one. */
  readonly #byPlace = new Map<string, GpuAsset>();
  readonly nodes: number;
  readonly gpus: number;

  private constructor({ nodes, gpus }: AssetEntries) {
    this.#nodes = nodes;
    this.nodes = nodes.length;
    this.gpus = gpus.length;
  }

  static readonly empty = new AssetIndex({ nodes: [], gpus: [] });

  /** What is there twice, or too much, goes to `faults`. */
  static async of(entries: AssetEntries, faults: AssetFault[]): Promise<AssetIndex> {
    const index = new AssetIndex(entries);
    for (const [place, entry] of entries.nodes.entries()) {
      index.#addNode(place, entry);
      if (place % BATCH === BATCH - 1) await setImmediate();
    }
    if (index.#globs.length > MAX_GLOBS)
      faults.push({ line: 0, path: 'nodes', message: `must be at most ${MAX_GLOBS} with * or ?` });
    for (const [place, entry] of entries.gpus.entries()) {
      index.#addGpu(place, entry, faults);
      if (place % BATCH === BATCH - 1) await setImmediate();
    }
    return index;
  }

  #addNode(place: number, { node, cluster }: NodeEntry): void {
    if (isGlob(node) || (cluster !== undefined && isGlob(cluster))) {
      this.#globs.push(place);
      return;
    }
    const list = this.#exact.get(node);
    if (list) list.push(place);
    else this.#exact.set(node, [place]);
  }

  #addGpu(place: number, entry: GpuEntry, faults: AssetFault[]): void {
    const { uuid, serial, cluster, node, gpu } = entry;
    const add = (map: Map<string, GpuAsset>, key: string, words: string): void => {
      if (map.has(key)) faults.push({ line: 0, path: `gpus[${place}]`, message: `${words} is there twice` });
      map.set(key, entry);
    };
    if (uuid !== undefined) add(this.#byUuid, uuid, uuid);
    if (serial !== undefined) add(this.#bySerial, serial, serial);
    if (node !== undefined && gpu !== undefined)
      add(this.#byPlace, placeKey(cluster ?? '', node, gpu), `GPU ${gpu} of ${node}`);
  }

  /** All entries that fit, later ones winning field by field; then the labels that the node brings itself. */
  nodeAsset(cluster: string, node: string, labels: Labels): NodeAsset {
    const fits = (this.#exact.get(node) ?? []).filter((place) => {
      const wanted = this.#nodes[place]!.cluster;
      return wanted === undefined || wanted === cluster;
    });
    for (const place of this.#globs) {
      const entry = this.#nodes[place]!;
      if (globFits(entry.node, node) && (entry.cluster === undefined || globFits(entry.cluster, cluster)))
        fits.push(place);
    }
    const merged: Partial<NodeAsset> = Object.assign(
      {},
      ...fits.sort((a, b) => a - b).map((at) => this.#nodes[at]),
    );
    const listed = (name: string): readonly string[] => {
      const value = labelOf(labels, name);
      return value === undefined ? [] : [value];
    };
    return {
      pool: merged.pool ?? labelOf(labels, 'pool'),
      rack: merged.rack ?? labelOf(labels, 'rack'),
      pdu: merged.pdu ?? listed('pdu'),
      coolingZone: merged.coolingZone ?? labelOf(labels, 'cooling_zone'),
      switches: merged.switches ?? listed('switch'),
      row: merged.row ?? labelOf(labels, 'row'),
      datacenter: merged.datacenter ?? labelOf(labels, 'datacenter'),
    };
  }

  /** By UUID, then serial, then place: a board that was moved is found where it is now. */
  gpuAsset(cluster: string, node: string, gpu: string, uuid: string, serial: string): GpuAsset | undefined {
    return (
      this.#byUuid.get(uuid) ??
      this.#bySerial.get(serial) ??
      this.#byPlace.get(placeKey(cluster, node, gpu)) ??
      this.#byPlace.get(placeKey('', node, gpu))
    );
  }
}

function placeKey(cluster: string, node: string, gpu: string): string {
  return `${cluster}\0${node}\0${gpu}`;
}

function isGlob(text: string): boolean {
  return /[*?]/.test(text);
}

/** `*` is any run of characters, `?` one. Goes back only to the last star: at most pattern times text. */
export function globFits(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let from = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p++;
      from = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++from;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}
