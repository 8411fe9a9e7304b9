import { setImmediate } from 'node:timers/promises';
import * as v from 'valibot';
import {
  type AssetEntries,
  type AssetFault,
  MAX_GPU_ENTRIES,
  MAX_NODE_ENTRIES,
  type NodeEntry,
} from './asset.ts';
import { gpuSchema, issueWords, nodeSchema } from './asset-schema.ts';

/** A row of all fields is about 250 bytes: a million GPUs. */
export const MAX_CSV_BYTES = 256 * 1024 * 1024;
/** Rows read between two looks at the rest of the process. */
const BATCH = 250;
/** Faults past which the rest is not read: the file is something else. */
const MAX_FAULTS = 100;

const NODE_FIELDS = ['pool', 'rack', 'pdu', 'cooling_zone', 'switches', 'row', 'datacenter'] as const;
const GPU_FIELDS = ['uuid', 'serial', 'gpu', 'purchased', 'warranty_end', 'firmware', 'repairs'] as const;
const COLUMNS: ReadonlySet<string> = new Set(['node', 'cluster', ...NODE_FIELDS, ...GPU_FIELDS]);
/** Fields that hold several values, with ; between them. */
const LISTS: ReadonlySet<string> = new Set(['pdu', 'switches']);

/**
 * Reads an inventory as a table (RFC 4180) whose header names the same fields as the YAML form. A row is about a
 * node, a GPU, or both: exports with a row for each GPU repeat what they say of its node.
 */
export async function parseAssetCsv(text: string, faults: AssetFault[]): Promise<AssetEntries> {
  const entries: AssetEntries = { nodes: [], gpus: [] };
  const byNode = new Map<string, number>();
  let header: string[] | undefined;
  let rows = 0;
  for (const { line, cells } of csvRows(text, faults)) {
    if (header === undefined) {
      header = cells.map((cell) => cell.trim().toLowerCase());
      if (!goodHeader(header, line, faults)) break;
      continue;
    }
    if (cells.length !== header.length) {
      faults.push({
        line,
        path: 'row',
        message: `has ${cells.length} cells, the header has ${header.length}`,
      });
    } else takeRow(header, cells, line, entries, byNode, faults);
    if (faults.length >= MAX_FAULTS || tooMany(entries, line, faults)) break;
    if (++rows % BATCH === 0) await setImmediate();
  }
  return entries;
}

function takeRow(
  header: readonly string[],
  cells: readonly string[],
  line: number,
  entries: AssetEntries,
  byNode: Map<string, number>,
  faults: AssetFault[],
): void {
  const row: Record<string, unknown> = {};
  for (const [i, column] of header.entries()) {
    const cell = cells[i]!.trim();
    if (cell === '') continue;
    row[column] = LISTS.has(column) ? parts(cell) : column === 'repairs' ? parts(cell).map(repairOf) : cell;
  }
  const { node, cluster } = row;
  const ofGpu = pick(row, GPU_FIELDS);
  const ofNode = pick(row, NODE_FIELDS);
  const wanted = Object.keys(ofNode).length > 0 || (node !== undefined && Object.keys(ofGpu).length === 0);
  if (wanted && !isRepeat(entries, byNode, ofNode, node, cluster)) {
    const parsed = v.safeParse(nodeSchema, clean({ node, cluster, ...ofNode }));
    if (parsed.success) addNode(parsed.output, entries.nodes, byNode);
    else note(parsed.issues, line, faults);
  }
  if (Object.keys(ofGpu).length > 0) {
    const parsed = v.safeParse(gpuSchema, clean({ node, cluster, ...ofGpu }));
    if (parsed.success) entries.gpus.push(parsed.output);
    else note(parsed.issues, line, faults);
  }
}

/** Whether the newest entry says all of this: seven of eight rows of an export with a row for each GPU. */
function isRepeat(
  { nodes }: AssetEntries,
  byNode: ReadonlyMap<string, number>,
  ofNode: Record<string, unknown>,
  node: unknown,
  cluster: unknown,
): boolean {
  const newest = nodes.at(-1);
  if (newest === undefined || newest.node !== node || newest.cluster !== cluster) return false;
  if (byNode.get(`${newest.cluster ?? ''}\0${newest.node}`) !== nodes.length - 1) return false;
  return Object.entries(ofNode).every(([name, value]) => {
    const known = newest[name === 'cooling_zone' ? 'coolingZone' : (name as keyof NodeEntry)];
    return Array.isArray(value)
      ? Array.isArray(known) && known.join(';') === value.join(';')
      : known === value;
  });
}

/** Rows about one node are one entry, at the place of the last: later ones win field by field. */
function addNode(entry: NodeEntry, nodes: NodeEntry[], byNode: Map<string, number>): void {
  const key = `${entry.cluster ?? ''}\0${entry.node}`;
  const known = byNode.get(key);
  // Only the newest entry may grow: a glob in between must keep its place.
  if (known !== undefined && known === nodes.length - 1) nodes[known] = { ...nodes[known]!, ...entry };
  else {
    byNode.set(key, nodes.length);
    nodes.push(entry);
  }
}

function goodHeader(header: readonly string[], line: number, faults: AssetFault[]): boolean {
  const before = faults.length;
  for (const column of header)
    if (!COLUMNS.has(column))
      faults.push({ line, path: column, message: `is no column; there are ${[...COLUMNS].join(', ')}` });
  if (new Set(header).size < header.length)
    faults.push({ line, path: 'header', message: 'a column is there twice' });
  return faults.length === before;
}

function tooMany({ nodes, gpus }: AssetEntries, line: number, faults: AssetFault[]): boolean {
  if (nodes.length <= MAX_NODE_ENTRIES && gpus.length <= MAX_GPU_ENTRIES) return false;
  const [path, most] =
    nodes.length > MAX_NODE_ENTRIES ? ['nodes', MAX_NODE_ENTRIES] : ['gpus', MAX_GPU_ENTRIES];
  faults.push({ line, path, message: `must be at most ${most}` });
  return true;
}

function note(issues: readonly v.BaseIssue<unknown>[], line: number, faults: AssetFault[]): void {
  for (const issue of issues) {
    const path = (issue.path ?? []).map((item) => String(item.key)).join('.');
    faults.push({ line, path: path === '' ? 'row' : path, message: issueWords(issue) });
  }
}

function parts(cell: string): string[] {
  return cell
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** `2025-03-31 new board`. */
function repairOf(text: string): { date: string; what: string } {
  const [date = '', ...what] = text.split(/\s+/);
  return { date, what: what.join(' ') || 'repair' };
}

function pick(row: Record<string, unknown>, fields: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    fields.filter((field) => row[field] !== undefined).map((field) => [field, row[field]]),
  );
}

function clean(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined));
}

/** Rows with the line on which they begin; empty lines and lines that begin with # are left out. */
function* csvRows(
  text: string,
  faults: AssetFault[],
): IterableIterator<{ readonly line: number; readonly cells: string[] }> {
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  let line = 1;
  while (at < text.length) {
    const begin = line;
    const end = endOfLine(text, at);
    const plain = text.slice(at, end).replace(/\r$/, '');
    if (!plain.includes('"')) {
      if (plain.trim() !== '' && !plain.startsWith('#')) yield { line, cells: plain.split(',') };
      at = end + 1;
      line++;
      continue;
    }
    const quoted = readQuoted(text, at);
    if (quoted === undefined) {
      faults.push({ line, path: 'row', message: 'a quoted cell has no end, or something follows its end' });
      return;
    }
    line += quoted.lines;
    at = quoted.next;
    yield { line: begin, cells: quoted.cells };
  }
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end;
}

/** A row with quotes in it: cells may hold commas, doubled quotes and ends of lines. */
function readQuoted(
  text: string,
  from: number,
): { cells: string[]; next: number; lines: number } | undefined {
  const cells: string[] = [];
  let at = from;
  let lines = 0;
  for (;;) {
    let cell = '';
    if (text[at] === '"') {
      at++;
      for (;;) {
        const quote = text.indexOf('"', at);
        if (quote < 0) return undefined;
        const part = text.slice(at, quote);
        lines += part.split('\n').length - 1;
        cell += part;
        at = quote + 1;
        if (text[at] !== '"') break;
        cell += '"';
        at++;
      }
    } else {
      const stop = /[,\n]/g;
      stop.lastIndex = at;
      const end = stop.exec(text)?.index ?? text.length;
      cell = text.slice(at, end);
      at = end;
    }
    cells.push(cell);
    if (text[at] === '\r' && text[at + 1] === '\n') at++;
    if (at >= text.length || text[at] === '\n') return { cells, next: at + 1, lines: lines + 1 };
    if (text[at] !== ',') return undefined;
    at++;
  }
}
