import type { ControlShelf } from './control-shelf.ts';

/** How the store lies on the shelf, the same alone as beside NATS: who adds NATS later takes his silences along. */
const DOCUMENTS = 'control/';
const HEAD = 'control-head';

/** A document on the shelf. */
export interface KeptDocument {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
}

export interface KeptHead {
  /** The highest revision that was ever given: one that went with its document is not given again. */
  readonly revision: number;
  /** When the bucket that this is a copy of was created, as the server says it; empty for none. */
  readonly bucket: string;
}

export async function readKept(shelf: ControlShelf): Promise<{ documents: KeptDocument[]; head: KeptHead }> {
  const documents: KeptDocument[] = [];
  let head: KeptHead = { revision: 0, bucket: '' };
  for await (const [, value] of shelf.entries(HEAD)) head = value as KeptHead;
  for await (const [key, kept] of shelf.entries(DOCUMENTS)) {
    const { value, revision } = kept as { value: unknown; revision: number };
    documents.push({ key: key.slice(DOCUMENTS.length), value, revision });
  }
  return { documents, head };
}

/** Changes for the shelf; a document without a value goes. */
export function keptChanges(
  documents: Iterable<KeptDocument>,
  head?: KeptHead,
): { key: string; value?: unknown }[] {
  const changes: { key: string; value?: unknown }[] = head ? [{ key: HEAD, value: head }] : [];
  for (const { key, value, revision } of documents) {
    changes.push(
      value === undefined ? { key: DOCUMENTS + key } : { key: DOCUMENTS + key, value: { value, revision } },
    );
  }
  return changes;
}
