import { setImmediate } from 'node:timers/promises';
import * as v from 'valibot';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { describeError } from '#shared/errors/fleet-error.ts';
import { type AssetEntries, type AssetFault, MAX_GPU_ENTRIES, MAX_NODE_ENTRIES } from './asset.ts';
import { gpuSchema, issueWords, nodeSchema } from './asset-schema.ts';

/** YAML is parsed in one go, about a second for so much, in which nothing else happens: larger inventories are tables. */
export const MAX_YAML_BYTES = 1024 * 1024;
/** Entries checked between two looks at the rest of the process. */
const BATCH = 500;

const fileSchema = v.strictObject({
  nodes: v.optional(v.array(v.unknown(), 'must be a list'), []),
  gpus: v.optional(v.array(v.unknown(), 'must be a list'), []),
});

/** Reads an inventory in YAML: lists `nodes` and `gpus`. What is wrong goes to `faults`. */
export async function parseAssetYaml(text: string, faults: AssetFault[]): Promise<AssetEntries> {
  const entries: AssetEntries = { nodes: [], gpus: [] };
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines });
  for (const error of document.errors)
    faults.push({ line: lines.linePos(error.pos[0]).line, path: 'yaml', message: error.message });
  if (document.errors.length > 0) return entries;
  let content: unknown;
  try {
    // Aliases are refused past a few: a small file must not become a large one.
    content = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (error) {
    faults.push({ line: 0, path: 'yaml', message: describeError(error) });
    return entries;
  }
  const note = (at: readonly (string | number)[], issues: readonly v.BaseIssue<unknown>[]): void => {
    for (const issue of issues) {
      const path = [...at, ...(issue.path ?? []).map((item) => item.key as string | number)];
      faults.push({ line: lineOf(document, lines, path), path: pathWords(path), message: issueWords(issue) });
    }
  };
  if (Array.isArray(content)) {
    faults.push({ line: 1, path: '(top level)', message: 'must have the lists nodes and gpus' });
    return entries;
  }
  const outer = v.safeParse(fileSchema, content);
  if (!outer.success) {
    note([], outer.issues);
    return entries;
  }
  const { nodes, gpus } = outer.output;
  await readList(nodes, 'nodes', MAX_NODE_ENTRIES, nodeSchema, entries.nodes, note, faults);
  await readList(gpus, 'gpus', MAX_GPU_ENTRIES, gpuSchema, entries.gpus, note, faults);
  return entries;
}

async function readList<Entry>(
  list: readonly unknown[],
  key: string,
  most: number,
  schema: v.GenericSchema<unknown, Entry>,
  into: Entry[],
  note: (at: readonly (string | number)[], issues: readonly v.BaseIssue<unknown>[]) => void,
  faults: AssetFault[],
): Promise<void> {
  if (list.length > most) {
    faults.push({ line: 0, path: key, message: `must be at most ${most}` });
    return;
  }
  for (const [index, raw] of list.entries()) {
    if (index % BATCH === BATCH - 1) await setImmediate();
    const parsed = v.safeParse(schema, raw);
    if (parsed.success) into.push(parsed.output);
    else note([key, index], parsed.issues);
  }
}

/** The line of the nearest part of the path that is there. */
function lineOf(document: Document, lines: LineCounter, path: readonly (string | number)[]): number {
  for (let length = path.length; length > 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true);
    const range = (node as { range?: readonly [number, ...number[]] } | undefined)?.range;
    if (range) return lines.linePos(range[0]).line;
  }
  return 1;
}

function pathWords(path: readonly (string | number)[]): string {
  let words = '';
  for (const key of path) words += typeof key === 'number' ? `[${key}]` : `${words === '' ? '' : '.'}${key}`;
  return words === '' ? '(top level)' : words;
}
