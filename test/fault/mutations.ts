import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../support/data.ts';

interface Patch {
  readonly file: string;
  /** Must be in the file exactly once. */
  readonly search: string;
  readonly replace: string;
}

/**
 * Faults of the product itself, each against one of its promises. A run of the oracle on such a tree must fail, or
 * the oracle is worth nothing.
 */
export const MUTATIONS: Readonly<Record<string, readonly Patch[]>> = {
  // What the aggregator holds when it is killed is gone, and the agent was told that it is stored.
  'ack-before-write': [
    {
      file: 'aggregator/pipeline.ts',
      search: 'return store.write(block);',
      replace:
        "store.write(block).catch(() => {});\n    return Promise.resolve({ state: 'accepted', epoch: store.status.epoch });",
    },
    {
      file: 'aggregator/pipeline.ts',
      search: 'return this.#stages.store.writeSpan(span);',
      replace:
        "const { store } = this.#stages;\n    store.writeSpan(span).catch(() => {});\n    return Promise.resolve({ state: 'accepted', epoch: store.status.epoch });",
    },
  ],
  // A store's 2xx is taken for good: what it had in memory when it was killed is not sent again.
  'durable-on-accepted': [
    {
      file: 'agent/uplink/delivery.ts',
      search: 'if (readAt - entry.at < wait || (epoch === 0n && entry.epoch !== 0n)) return true;',
      replace: 'if (wait === 0 || (epoch === 0n && entry.epoch !== 0n)) return true;',
    },
  ],
  // What comes from the backlog is stamped a millisecond later than it was recorded: it is counted twice.
  'changed-timestamp': [
    {
      file: 'aggregator/ingest/span-table.ts',
      search: 'this.#timestamps[this.#ticks++] = timestampMs;',
      replace: 'this.#timestamps[this.#ticks++] = timestampMs + 1;',
    },
  ],
  // The ring drops what was never stored, and says nothing.
  'trim-without-ledger': [
    {
      file: 'agent/buffer/ring-trimmer.ts',
      search: 'for (const loss of cut.losses()) addLoss(loss);',
      replace: 'for (const loss of cut.losses()) if (loss.reason !== "trimmed") addLoss(loss);',
    },
  ],
};

/** What a run needs of the tree; node_modules is linked. */
const PARTS = ['agent', 'aggregator', 'shared', 'proto', 'deploy', 'test', 'package.json'];

/**
 * Copies the tree below `directory`, with the mutation done to it, and returns the copy's root. Also without one:
 * programs are started all through a run, and must not see what somebody edits meanwhile.
 */
export function copyTree(directory: string, mutation: string | undefined): string {
  const tree = join(directory, 'tree');
  for (const part of PARTS) cpSync(join(ROOT, part), join(tree, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  for (const patch of mutation === undefined ? [] : MUTATIONS[mutation]!) {
    const file = join(tree, patch.file);
    writeFileSync(file, mutate(readFileSync(file, 'utf8'), patch));
  }
  return tree;
}

/** Throws where the text to replace is not there exactly once: a mutation that does nothing proves nothing. */
export function mutate(text: string, { file, search, replace }: Patch): string {
  const found = text.split(search).length - 1;
  if (found !== 1)
    throw new Error(
      `Cannot mutate ${file}: ${JSON.stringify(search)} is there ${found} times; adapt mutations.ts`,
    );
  return text.replace(search, () => replace);
}
