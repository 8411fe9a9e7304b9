import type { Loss } from '#shared/model/loss.ts';

/** A loss as it is told: a newer agent may know reasons that this version does not. */
export interface ToldLoss extends Omit<Loss, 'reason'> {
  readonly reason: string;
}

/** One entry of the loss ledger. */
export interface LedgerEntry extends ToldLoss {
  readonly id: string;
  readonly cluster: string;
  readonly node: string;
  /** Of the record that said it: the same loss may be told twice. */
  readonly identity: string;
  /** Unix ms at which this process heard of it. */
  readonly recordedAtMs: number;
  /** Of how many entries this one is the sum; absent where it is one. */
  readonly folded?: number;
}

/** The end of the year 9999: the last moment that a protobuf Timestamp can name, and its JSON. */
const MAX_TIME_MS = 253_402_300_799_999;
const MAX_REASON = 64;
const MAX_DETAIL = 1024;
const REASONS: readonly string[] = [
  'trimmed',
  'corrupt',
  'run_vanished',
  'unbuffered',
  'refused',
  'store_ignored',
];
/** Entries that a fold leaves, at most: one for each reason, and one for those that this version does not know. */
export const MAX_FOLDED = REASONS.length + 1;

/** Reasons come from agents: as a label they are few. */
export function reasonLabel(reason: string): string {
  return REASONS.includes(reason) ? reason : 'other';
}

/** What came over the wire or from an estimate, within bounds. */
export function tidyLoss({ fromMs, toMs, samples, reason, estimated, detail }: ToldLoss): ToldLoss {
  const [from, to] = [clamp(fromMs, MAX_TIME_MS), clamp(toMs, MAX_TIME_MS)];
  return {
    fromMs: Math.min(from, to),
    toMs: Math.max(from, to),
    samples: clamp(samples, Number.MAX_SAFE_INTEGER),
    reason: reason.slice(0, MAX_REASON),
    estimated,
    // A cut in the middle of a character would be no text any more.
    detail: detail.slice(0, MAX_DETAIL).toWellFormed(),
  };
}

/**
 * One entry for each reason in place of many, under the key of its newest: so that it keeps its place in the order.
 * Keys that are not in the answer are to go.
 */
export function foldEntries(
  entries: readonly (readonly [key: string, entry: LedgerEntry])[],
): Map<string, LedgerEntry> {
  const folded = new Map<string, LedgerEntry>();
  for (const group of Map.groupBy(entries, ([, { reason }]) => reasonLabel(reason)).values()) {
    const [key, newest] = group.at(-1)!;
    folded.set(key, group.length === 1 ? newest : sumOf(group.map(([, entry]) => entry)));
  }
  return folded;
}

function sumOf(entries: readonly LedgerEntry[]): LedgerEntry {
  const newest = entries.at(-1)!;
  const folded = entries.reduce((sum, entry) => sum + (entry.folded ?? 1), 0);
  return {
    ...newest,
    reason: entries.every(({ reason }) => reason === newest.reason) ? newest.reason : 'other',
    fromMs: entries.reduce((least, { fromMs }) => Math.min(least, fromMs), newest.fromMs),
    toMs: entries.reduce((most, { toMs }) => Math.max(most, toMs), newest.toMs),
    samples: sumOfSamples(entries),
    estimated: entries.some(({ estimated }) => estimated),
    folded,
    detail:
      `${folded} losses in one entry, because there were too many; the newest: ${plainDetail(newest)}`.slice(
        0,
        MAX_DETAIL,
      ),
  };
}

/** At most what a double counts exactly. */
export function sumOfSamples(entries: readonly { readonly samples: number }[]): number {
  return entries.reduce((sum, { samples }) => Math.min(Number.MAX_SAFE_INTEGER, sum + samples), 0);
}

/** A folded entry without one of its losses; undefined where that was the last. */
export function keptAfter(entry: LedgerEntry, samples: number): LedgerEntry | undefined {
  const folded = (entry.folded ?? 1) - 1;
  if (folded <= 0) return undefined;
  return { ...entry, folded, samples: Math.max(0, entry.samples - samples) };
}

function plainDetail({ detail, folded }: LedgerEntry): string {
  return folded === undefined ? detail : detail.replace(/^.*?the newest: /, '');
}

function clamp(value: number, most: number): number {
  return Number.isNaN(value) ? 0 : Math.max(0, Math.min(most, Math.round(value)));
}
