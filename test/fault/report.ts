import type { Verdict } from './compare.ts';

export interface Findings {
  readonly verdict: Verdict;
  /** Rows that the store ever took, and those that a restored copy took away again. */
  readonly rows: { readonly inserted: number; readonly takenAway: number };
  /** Samples in the store at the end, of all series. */
  readonly uniqueSamples: number;
  /** See forcedRepeatS of the plan. */
  readonly forcedRepeatS: number;
  readonly lengthS: number;
  readonly deaths: readonly string[];
}

export interface Summary extends Findings {
  /** Rows over samples, without the rows that a restored copy took away: those are no repeats. */
  readonly ratio: number;
  readonly ratioLimit: number;
  readonly passed: boolean;
}

/** The product's promise under faults. */
const MAX_RATIO = 1.2;
/** From here on the repeats that the faults oblige to fit into it. */
const SHORT_RUN_S = 1_000;

export function summarize(findings: Findings): Summary {
  const { verdict, rows, uniqueSamples, forcedRepeatS, lengthS, deaths } = findings;
  const ratio = (rows.inserted - rows.takenAway) / Math.max(1, uniqueSamples);
  // In two minutes, a single kill of the store obliges the fleet to repeat a third of all it has.
  const ratioLimit = lengthS < SHORT_RUN_S ? MAX_RATIO + forcedRepeatS / lengthS : MAX_RATIO;
  const passed =
    verdict.violations.size === 0 && verdict.stored > 0 && ratio <= ratioLimit && deaths.length === 0;
  return { ...findings, ratio, ratioLimit, passed };
}

export function renderReport(summary: Summary): string {
  const { verdict, rows, uniqueSamples, ratio, ratioLimit, deaths, passed } = summary;
  const { ledger, events, staleMarkers } = verdict;
  const reasons = [...ledger.byReason].map(([reason, samples]) => `${reason} ${samples}`).join(', ');
  const count = (kind: Parameters<Verdict['violations']['get']>[0]): number =>
    verdict.violations.get(kind)?.count ?? 0;
  const raw = (rows.inserted / Math.max(1, uniqueSamples)).toFixed(3);
  const lines = [
    `expected                ${verdict.expected}`,
    `stored                  ${verdict.stored} (and ${verdict.copies} copies that are not yet merged)`,
    `ledgered                ${reasons || 'none'}`,
    `duplicates              ${count('duplicate')}`,
    `wrong                   ${count('wrong')}`,
    `invented                ${count('invented')}`,
    `forgotten               ${count('forgotten')}`,
    `collisions              ${count('collision')}`,
    `missing without reason  ${count('missing_without_reason')}`,
    `missing beyond ledger   ${count('missing_beyond_ledger')}`,
    `ledger over-reported    exact ${ledger.overReportedExact}, estimated ${ledger.overReportedEstimated}, ` +
      `${ledger.idle.length} entries cover nothing that is missing`,
    `stale markers           ${staleMarkers.stored} of ${staleMarkers.expected}`,
    `events                  ${events.delivered} delivered of ${events.expected}, ${events.ledgered} ledgered, ` +
      `${count('event_missing')} missing, ${count('event_invented')} invented`,
    `rows over samples       ${ratio.toFixed(3)} (at most ${ratioLimit.toFixed(2)}); ${raw} with the ` +
      `${rows.takenAway} rows that a restored copy took away (${rows.inserted} rows, ${uniqueSamples} samples)`,
  ];
  for (const entry of ledger.idle.slice(0, 10))
    lines.push(`  covers nothing missing: ${JSON.stringify(entry)}`);
  for (const [kind, { count: found, examples }] of verdict.violations)
    lines.push(`${kind}: ${found}`, ...examples.map((example) => `  ${example}`));
  for (const death of deaths) lines.push(`ended by itself: ${death}`);
  lines.push(passed ? 'PASSED' : 'FAILED');
  return `${lines.join('\n')}\n`;
}
