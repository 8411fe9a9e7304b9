import type { XidSeverity } from './xid.ts';

/** What the seven registers of an Xid 74 (NVLink up to generation 4) say. */
export interface RegisterVerdict {
  readonly severity: XidSeverity;
  readonly action: string;
  /** The bits that decided, as `word.bit`. */
  readonly bits: string;
}

interface Meaning {
  readonly severity: XidSeverity;
  readonly action: string;
}

const IGNORE: Meaning = { severity: 'info', action: 'none' };
const SYMPATHETIC: Meaning = { severity: 'info', action: 'none; it follows an error of the peer' };
const THRESHOLD: Meaning = { severity: 'warning', action: 'none; corrected errors passed their threshold' };
const PARITY: Meaning = { severity: 'warning', action: 'report after more than two on one link' };
const REPORT: Meaning = { severity: 'warning', action: 'report if it repeats' };
const DIAGNOSE: Meaning = { severity: 'error', action: 'run the field diagnostic if it repeats' };
const FABRIC_RESET: Meaning = {
  severity: 'error',
  action: 'reset the fabric; it follows an error of the peer',
};
const SIGNAL: Meaning = { severity: 'error', action: 'check the connections, then run the field diagnostic' };
const RESEAT: Meaning = { severity: 'error', action: 'check the mechanics of the link and re-seat the GPU' };
const NEVER: Meaning = { severity: 'error', action: 'contact support: this is never to be seen' };

/** From harmless to worst: where several bits are set, the last of them decides. */
const ORDER = [IGNORE, SYMPATHETIC, THRESHOLD, PARITY, REPORT, DIAGNOSE, FABRIC_RESET, SIGNAL, RESEAT, NEVER];

/** NVIDIA's Xid catalogue of 2026, text of Xid 74: words 1, 3, 4 and 5 of seven are valid on Hopper. */
// biome-ignore format: a table, one meaning a line
const byWord: ReadonlyMap<number, readonly (readonly [Meaning, bits: readonly number[]])[]> = new Map<number, readonly (readonly [Meaning, readonly number[]])[]>([
  [1, [[IGNORE, [0, 23, 30]], [SYMPATHETIC, [1, 20]], [PARITY, [4, 5]], [RESEAT, [8, 9, 12, 16, 17, 24, 28]], [SIGNAL, [21, 22]], [REPORT, [27, 29]]]],
  [3, [[PARITY, [0, 1, 2, 6]], [NEVER, [13]], [DIAGNOSE, [16, 19]], [REPORT, [17, 18]]]],
  [4, [[SYMPATHETIC, [16, 17]], [FABRIC_RESET, [18]]]],
  [5, [[PARITY, [18, 19, 21, 22, 24, 25, 27, 28]], [THRESHOLD, [20, 23, 26, 29]]]],
]);

/** Undefined where no bit that the table knows is set. */
export function registerVerdict(words: readonly number[]): RegisterVerdict | undefined {
  let worst = -1;
  const deciding: string[] = [];
  for (const [word, meanings] of byWord) {
    for (const [meaning, bits] of meanings) {
      const set = bits.filter((bit) => ((words[word - 1] ?? 0) & (2 ** bit)) !== 0);
      if (set.length === 0) continue;
      const rank = ORDER.indexOf(meaning);
      if (rank > worst) deciding.length = 0;
      if (rank >= worst) deciding.push(...set.map((bit) => `${word}.${bit}`));
      worst = Math.max(worst, rank);
    }
  }
  const meaning = ORDER[worst];
  return meaning && { ...meaning, bits: deciding.join(' ') };
}
