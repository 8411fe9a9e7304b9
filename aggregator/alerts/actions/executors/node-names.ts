import * as v from 'valibot';
import type { Facts } from '../executor.ts';

/**
 * How the other side names a node: `same` as here, `short` (up to the first dot), or a table from our names to its.
 */
export const nodeNames = v.optional(
  v.union(
    [
      v.picklist(['same', 'short']),
      v.pipe(
        v.record(v.string(), v.pipe(v.string(), v.check(isNodeName, 'is not a node name'))),
        v.check((table) => Object.keys(table).length <= 100_000, 'must be at most 100,000 nodes'),
      ),
    ],
    'must be same, short, or a table of names',
  ),
  'same',
);

type NodeNames = v.InferOutput<typeof nodeNames>;

/** What Slurm would read as a list (`a[1-3]`, `a,b`) or as every node (`ALL`) is no name. */
function isNodeName(name: string): boolean {
  return /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(name) && name.toUpperCase() !== 'ALL';
}

/** Its name there; undefined where there is none, or one that no node could have. */
export function nameThere(names: NodeNames, node: string): string | undefined {
  const name =
    names === 'same'
      ? node
      : names === 'short'
        ? node.split('.')[0]
        : Object.hasOwn(names, node)
          ? names[node]
          : undefined;
  return name !== undefined && isNodeName(name) ? name : undefined;
}

/** The name under which it was done, whatever the table says by now; undefined where the facts have none. */
export function nodeOfUndo({ node }: Facts): string | undefined {
  return typeof node === 'string' && isNodeName(node) ? node : undefined;
}
