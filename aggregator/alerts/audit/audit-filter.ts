import type { AuditEntry } from './audit-entry.ts';

export interface AuditFilter {
  readonly node?: string;
  readonly who?: string;
  readonly subject?: string;
  /** Included. */
  readonly fromMs?: number;
  /** Excluded. */
  readonly toMs?: number;
  /** Only what is older than the entry of this id: the last of the page before. */
  readonly before?: string;
  /** 1,000 by default, and at most. */
  readonly limit?: number;
}

export const MAX_PAGE = 1_000;

export function isWanted(entry: AuditEntry, filter: AuditFilter): boolean {
  const { node, who, subject, fromMs, toMs, before } = filter;
  if (before !== undefined && entry.id >= before) return false;
  if (node !== undefined && entry.node !== node) return false;
  if (who !== undefined && entry.who !== who) return false;
  if (subject !== undefined && entry.subject !== subject) return false;
  return entry.atMs >= (fromMs ?? 0) && entry.atMs < (toMs ?? Number.POSITIVE_INFINITY);
}
