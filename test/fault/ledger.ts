/** An entry of the product's loss ledger. */
export interface LedgerEntry {
  readonly node: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly samples: number;
  readonly reason: string;
  readonly estimated: boolean;
  readonly detail: string;
}

/** Samples of one tick that are not in the store; 0 where only stale markers are missing. */
export interface MissingSamples {
  readonly node: string;
  readonly timestampMs: number;
  readonly samples: number;
  readonly what: string;
}

export interface Ledgered {
  /** Missing samples that entries account for, by reason. */
  readonly byReason: ReadonlyMap<string, number>;
  readonly withoutReason: readonly MissingSamples[];
  /** Covered by the time of an entry, but over the number that the entries claim. */
  readonly beyond: readonly MissingSamples[];
  /** Samples that exact entries claim and that are not missing. */
  readonly overReportedExact: number;
  /** The same of entries that say of themselves that they are estimates. */
  readonly overReportedEstimated: number;
  /** Entries that claim samples where none is missing. */
  readonly idle: readonly LedgerEntry[];
}

/** An estimate may be too low by this much: it is a rate times a time. */
const ESTIMATE_SLACK = 1.25;

interface Account {
  readonly entry: LedgerEntry;
  left: number;
  used: number;
}

/**
 * Books each missing sample on an entry whose time covers it. Taking the moments in order, and of the entries that
 * cover one the one that ends first, books as many as can be booked at all: what is left is beyond the ledger. What
 * the entries claim too much is another question, and gets a booking of its own, exact entries first.
 */
export function settleLedger(missing: readonly MissingSamples[], losses: readonly LedgerEntry[]): Ledgered {
  const covered: MissingSamples[] = [];
  const withoutReason: MissingSamples[] = [];
  for (const one of missing.toSorted((a, b) => a.timestampMs - b.timestampMs)) {
    const isCovered = losses.some((entry) => covers(entry, one));
    (isCovered ? covered : withoutReason).push(one);
  }
  const beyond = bookAll(covered, accountsOf(losses));
  const accounts = accountsOf(losses);
  const [estimated, exact] = [true, false].map((kind) =>
    accounts.filter(({ entry }) => entry.estimated === kind),
  );
  bookAll(bookAll(covered, exact!), estimated!);
  return { withoutReason, beyond, ...sums(accounts) };
}

function accountsOf(losses: readonly LedgerEntry[]): Account[] {
  return losses.map((entry) => {
    const left = entry.estimated ? Math.ceil(entry.samples * ESTIMATE_SLACK) : entry.samples;
    return { entry, left, used: 0 };
  });
}

/** Returns what found no room. */
function bookAll(missing: readonly MissingSamples[], accounts: readonly Account[]): MissingSamples[] {
  return missing.flatMap((one) => {
    const samples = book(one, accounts);
    return samples > 0 ? [{ ...one, samples }] : [];
  });
}

/** Returns how many samples found no room. */
function book(one: MissingSamples, accounts: readonly Account[]): number {
  let { samples } = one;
  const covering = accounts.filter((account) => account.left > 0 && covers(account.entry, one));
  for (const account of covering.sort((a, b) => a.entry.toMs - b.entry.toMs)) {
    const taken = Math.min(samples, account.left);
    account.left -= taken;
    account.used += taken;
    samples -= taken;
  }
  return samples;
}

function covers(entry: LedgerEntry, one: MissingSamples): boolean {
  return entry.node === one.node && entry.fromMs <= one.timestampMs && one.timestampMs <= entry.toMs;
}

function sums(accounts: readonly Account[]) {
  const byReason = new Map<string, number>();
  const idle: LedgerEntry[] = [];
  let [overReportedExact, overReportedEstimated] = [0, 0];
  for (const { entry, used } of accounts) {
    byReason.set(entry.reason, (byReason.get(entry.reason) ?? 0) + used);
    const over = Math.max(0, entry.samples - used);
    if (entry.estimated) overReportedEstimated += over;
    else overReportedExact += over;
    if (used === 0 && entry.samples > 0) idle.push(entry);
  }
  return { byReason, overReportedExact, overReportedEstimated, idle };
}
