import type { GpuName } from './holding.ts';

/** What `scontrol show job --oneliner --details` says of a job. */
export interface ScontrolJob {
  readonly id: string;
  readonly name: string;
  readonly user: string;
  readonly account: string;
  readonly partition: string;
  /** GPUs of it on the node that was asked for. */
  readonly gpus: readonly GpuName[];
}

/** More than a node has. */
const MAX_INDEX = 255;

/**
 * Splits a record of `scontrol --oneliner`, `Key=value` separated by spaces:
 *
 *     JobId=42 JobName=train UserId=alice(1000) GroupId=ml(1000) ... JobState=RUNNING ...
 *
 * A value may hold spaces and equals signs (a name, a command): a key is a word at the begin or behind a space that
 * begins with a capital. Keys that come again (`Nodes=` of each group of nodes) are given again.
 */
export function scontrolFields(line: string): [key: string, value: string][] {
  const keys = [...line.matchAll(/(?:^| )([A-Z][A-Za-z_:/*&]*)=/g)];
  return keys.map((found, i) => [
    found[1]!,
    line.slice(found.index + found[0].length, keys[i + 1]?.index ?? line.length).trim(),
  ]);
}

/**
 * Reads the job of one node. Its GPUs are in the groups of nodes at the end, of which the one with this node counts:
 *
 *     ... Nodes=node-a CPU_IDs=0-1 Mem=500 GRES=gpu:h100:2(IDX:0,2-3) ...
 *
 * Undefined where the line is no job.
 */
export function parseScontrolJob(line: string, node: string): ScontrolJob | undefined {
  const fields = scontrolFields(line);
  const of = (key: string): string => {
    const value = fields.find(([name]) => name === key)?.[1] ?? '';
    return value === '(null)' ? '' : value;
  };
  const id = of('JobId');
  if (!/^\d{1,10}$/.test(id)) return undefined;
  const gpus: GpuName[] = [];
  let onNode = false;
  for (const [key, value] of fields) {
    if (key === 'Nodes') onNode = holdsNode(value, node);
    else if (key === 'GRES' && onNode) gpus.push(...indicesOf(value).map((index) => ({ index })));
  }
  return {
    id,
    name: of('JobName'),
    user: of('UserId').replace(/\(\d+\)$/, ''),
    account: of('Account'),
    partition: of('Partition'),
    gpus,
  };
}

/** `gpu:h100:2(IDX:0,2-3),shard:4(IDX:0)`: only those of gpu. */
function indicesOf(gres: string): number[] {
  const indices = new Set<number>();
  for (const [, list] of gres.matchAll(/(?:^|,)gpu(?::[^(),]*)*\(IDX:([\d,-]*)\)/g)) {
    for (const range of list!.split(',')) {
      const [, first, last = first] = /^(\d{1,3})(?:-(\d{1,3}))?$/.exec(range) ?? [];
      if (first === undefined) continue;
      for (let i = Number(first); i <= Math.min(Number(last), MAX_INDEX); i++) indices.add(i);
    }
  }
  return [...indices];
}

/** `node-a`, `node[1-3,7],other`: whether the list has the node. Numbers keep their leading zeros. */
function holdsNode(list: string, node: string): boolean {
  return list.split(/,(?![^[]*\])/).some((item) => {
    const found = /^([^[\]]*)\[([\d,-]+)\]([^[\]]*)$/.exec(item);
    if (!found) return item === node;
    const [, before, ranges, after] = found;
    if (!node.startsWith(before!) || !node.endsWith(after!)) return false;
    const number = node.slice(before!.length, node.length - after!.length);
    return ranges!.split(',').some((range) => {
      const [first = '', last = first] = range.split('-');
      const same = number.length >= first.length && /^\d{1,15}$/.test(number);
      return same && Number(number) >= Number(first) && Number(number) <= Number(last);
    });
  });
}
