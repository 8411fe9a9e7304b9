import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import type { GpuTable } from './gpu-table.ts';
import { carries, freeKey, gpuOf } from './series-labels.ts';
import type { SeriesTable } from './series-table.ts';

/** What to do with the ticks of one dictionary of one node: made once, then only indexed. */
export interface SeriesProgram {
  /** -1 where there was no room for the node: nothing is done. */
  readonly nodeRow: number;
  /** Rows of the GPUs that the dictionary has series of. */
  readonly gpus: Int32Array;
  readonly reads: readonly SeriesRead[];
  /** Which rules it was made for. */
  readonly version: number;
  /** Monotonic ms of the last tick: rows of a program at rest may have gone to others. */
  usedMs: number;
}

interface SeriesRead {
  readonly table: SeriesTable;
  readonly slots: Int32Array;
  readonly rows: Int32Array;
}

export interface CompileInput {
  readonly dictionary: Dictionary;
  readonly nodeRow: number;
  readonly tables: Iterable<SeriesTable>;
  readonly gpus: GpuTable;
  readonly version: number;
  readonly nowMs: number;
  /** Told of each series and GPU for which there was no room. */
  readonly refused: (what: 'series' | 'gpus') => void;
}

export function compileProgram(input: CompileInput): SeriesProgram {
  const { nodeRow, version, nowMs } = input;
  if (nodeRow < 0) return { nodeRow, gpus: new Int32Array(0), reads: [], version, usedMs: nowMs };
  const reads: SeriesRead[] = [];
  for (const table of input.tables) {
    const read = readOf(table, input);
    if (read.slots.length > 0) reads.push(read);
  }
  return { nodeRow, gpus: gpuRows(input), reads, version, usedMs: nowMs };
}

function readOf(table: SeriesTable, input: CompileInput): SeriesRead {
  const slots: number[] = [];
  const rows: number[] = [];
  for (const [slot, { name, labels, unit }] of input.dictionary.series.entries()) {
    if (name !== table.metric || !carries(labels, table.match)) continue;
    const identity = {
      nodeRow: input.nodeRow,
      gpu: gpuOf(labels),
      key: freeKey(labels, table.match),
      labels,
    };
    const row = table.add(identity, input.dictionary.intervalMs, input.nowMs);
    if (row < 0) {
      input.refused('series');
      continue;
    }
    table.unit ||= unit;
    slots.push(slot);
    rows.push(row);
  }
  return { table, slots: Int32Array.from(slots), rows: Int32Array.from(rows) };
}

function gpuRows({ dictionary, gpus, nodeRow, nowMs, refused }: CompileInput): Int32Array {
  const rows = new Set<number>();
  const known = new Set<string>();
  for (const { labels } of dictionary.series) {
    const gpu = gpuOf(labels);
    if (gpu === '' || known.has(gpu)) continue;
    known.add(gpu);
    const row = gpus.add(nodeRow, gpu, labelOf(labels, 'uuid') ?? '', nowMs);
    if (row < 0) refused('gpus');
    else rows.add(row);
  }
  return Int32Array.from(rows);
}
