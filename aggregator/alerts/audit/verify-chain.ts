import { type AuditDisk, type AuditHead, BLOCK } from './audit-disk.ts';
import { type ChainedEntry, hashOf } from './audit-entry.ts';

/** Where the chain does not hold. */
export interface AuditFault {
  readonly seq: number;
  /** Of the entry, where there is one. */
  readonly id: string;
  readonly why: string;
}

/** What an entry that says which older ones were let go carries as `after`. */
export interface Anchor {
  readonly up_to_seq: number;
  readonly hash: string;
}

/** What such an entry says happened. */
export const TRIM = 'audit.trim';

/**
 * Goes through the entries from `first` up to the head and says where the chain first breaks; undefined where it
 * holds. An aborted one ends early and finds nothing.
 */
export async function verifyChain(
  disk: AuditDisk,
  first: number,
  head: AuditHead,
  signal: AbortSignal,
): Promise<AuditFault | undefined> {
  let before: ChainedEntry | undefined;
  /** What the oldest entry builds on, until an anchor confirms it. */
  let unanchored: Anchor | undefined;
  for (let block = Math.floor(first / BLOCK); block <= Math.floor(head.seq / BLOCK); block++) {
    for (const entry of await disk.block(block)) {
      if (signal.aborted) return undefined;
      if (entry.seq > head.seq) break;
      const fault = faultOf(entry, before, first);
      if (fault !== undefined) return fault;
      if (before === undefined && first > 1) unanchored = { up_to_seq: first - 1, hash: entry.previous };
      if (unanchored && confirms(entry, unanchored)) unanchored = undefined;
      before = entry;
    }
  }
  if ((before?.seq ?? first - 1) !== head.seq)
    return { seq: (before?.seq ?? first - 1) + 1, id: '', why: 'it and all newer entries are missing' };
  if (before !== undefined && before.hash !== head.hash)
    return { seq: head.seq, id: before.id, why: 'it is not the one that was written last' };
  if (unanchored)
    return {
      seq: first - 1,
      id: '',
      why: 'it and older ones are missing, and no entry says that they were let go',
    };
  return undefined;
}

function faultOf(
  entry: ChainedEntry,
  before: ChainedEntry | undefined,
  first: number,
): AuditFault | undefined {
  const { seq, id, hash } = entry;
  const expected = before === undefined ? first : before.seq + 1;
  if (seq !== expected) return { seq: expected, id: '', why: 'it is missing or unreadable' };
  if (hashOf(entry) !== hash) return { seq, id, why: 'its text was changed' };
  const previous = before === undefined ? (first === 1 ? '' : entry.previous) : before.hash;
  if (entry.previous !== previous) return { seq, id, why: 'it does not follow the entry before it' };
  return undefined;
}

function confirms(entry: ChainedEntry, anchor: Anchor): boolean {
  const after = entry.after as Partial<Anchor> | undefined;
  return entry.what === TRIM && after?.up_to_seq === anchor.up_to_seq && after.hash === anchor.hash;
}
