/** What is known of a node beyond what it says itself. Lists are empty where nothing is known. */
export interface NodeAsset {
  readonly pool: string | undefined;
  readonly rack: string | undefined;
  readonly pdu: readonly string[];
  readonly coolingZone: string | undefined;
  readonly switches: readonly string[];
  readonly row: string | undefined;
  readonly datacenter: string | undefined;
}

export interface Repair {
  /** Unix ms, 00:00 UTC of the day. */
  readonly atMs: number;
  readonly what: string;
}

export interface GpuAsset {
  readonly uuid: string | undefined;
  readonly serial: string | undefined;
  /** Unix ms, 00:00 UTC of the day. */
  readonly purchasedMs: number | undefined;
  /** Unix ms, the end of the last day of the warranty, UTC. */
  readonly warrantyEndMs: number | undefined;
  readonly firmware: string | undefined;
  /** Oldest first. */
  readonly repairs: readonly Repair[];
}

/** An entry for nodes, as written: what is undefined is left to other entries. */
export interface NodeEntry extends Partial<NodeAsset> {
  /** Name or glob. */
  readonly node: string;
  readonly cluster: string | undefined;
}

/** An entry for a GPU: by UUID, by serial, or by node and index. */
export interface GpuEntry extends GpuAsset {
  readonly cluster: string | undefined;
  readonly node: string | undefined;
  readonly gpu: string | undefined;
}

/** A file's content. */
export interface AssetEntries {
  readonly nodes: NodeEntry[];
  readonly gpus: GpuEntry[];
}

/** A fault of a file. */
export interface AssetFault {
  /** From 1; 0 where it has no line. */
  readonly line: number;
  /** Such as `nodes[3].rack`, or the column of a table. */
  readonly path: string;
  readonly message: string;
}

/** Entries of a file: more than one process watches. 500 MB with so many GPUs: measured 97 MB for 200,000 of 25,000 nodes. */
export const MAX_NODE_ENTRIES = 200_000;
export const MAX_GPU_ENTRIES = 1_000_000;
/** Entries with * or ?: each node is matched against all of them once. */
export const MAX_GLOBS = 1000;
/** Switches and PDUs of a node: a rail-optimised node has 8 NICs. */
export const MAX_LIST = 16;
/** Repairs of a GPU. */
export const MAX_REPAIRS = 64;
