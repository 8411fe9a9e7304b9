import type { XidSeverity } from './xid.ts';

/** What the words of an NVLink 5 Xid (144 to 150) say. */
export interface Nvlink5Verdict {
  readonly severity: XidSeverity;
  readonly action: string;
  /** What NVIDIA's table says to look into; empty where nothing. */
  readonly investigate: string;
}

export interface Nvlink5Words {
  readonly xid: number;
  /** `NETIR_LINK_EVT`, `TLW_RX/TLW_RX_PIPE0`; the part after the slash does not matter. */
  readonly unit: string;
  /** The driver's word. */
  readonly fatal: boolean;
  /** First word of the line; undefined where the line was cut. */
  readonly intrInfo: number | undefined;
  /** Second word. */
  readonly errorStatus: number | undefined;
}

type Outcome = 'reset' | 'ignore' | 'by_154';
type Bits = readonly (readonly [status: readonly number[], outcome: Outcome, investigate: string])[];

const SUPPORT = 'contact support';
const REPORT_SW: Bits[number] = [[0x8000_0000], 'ignore', SUPPORT];
const LINK_SIGNAL = 'check signal and cables of the link';
const PEER = 'look at the peer device';
const USER = 'somebody or some software took the link down';
const ACTION: Record<Outcome, string> = {
  reset: 'reset the GPU',
  ignore: 'none',
  by_154: 'do what Xid 154 says; without one, restart the application',
};

/**
 * By unit: error status bits -> outcome. From NVIDIA's Xid catalogue of 2026, sheet 2 (95 rows). A unit that is not
 * here, or a bit that is not, is judged by the driver's severity word.
 */
const byUnit: ReadonlyMap<string, Bits> = new Map<string, Bits>([
  [
    'SAW_MVB',
    [
      [[0x1, 0x8], 'ignore', SUPPORT],
      [[0x2, 0x10], 'reset', SUPPORT],
      [[0x4, 0x20], 'ignore', ''],
    ],
  ],
  ['RLW_CTRL', [REPORT_SW]],
  [
    'RLW_REMAP',
    [
      [[0x1, 0x2], 'by_154', SUPPORT],
      [[0x4, 0x8, 0x10, 0x20], 'by_154', 'check the NVLink failure flow'],
      [[0x40, 0x80], 'reset', SUPPORT],
      [[0x100, 0x200], 'ignore', ''],
      REPORT_SW,
    ],
  ],
  ['RLW_RSPCOL', [[[0x1], 'ignore', ''], [[0x2], 'reset', SUPPORT], REPORT_SW]],
  ['RLW_RXPIPE', [[[0x1, 0x2, 0x4, 0x8], 'ignore', SUPPORT], REPORT_SW]],
  [
    'RLW_SRC_TRACK',
    [[[0x1, 0x10, 0x20], 'reset', SUPPORT], [[0x2], 'ignore', ''], [[0x4, 0x8], 'by_154', ''], REPORT_SW],
  ],
  [
    'RLW_TAGSTATE',
    [[[0x1, 0x1_0000], 'ignore', ''], [[0x2, 0x2_0000, 0x10_0000], 'reset', SUPPORT], REPORT_SW],
  ],
  ...['TLW_CTRL', 'TLW_RX', 'TLW_TX'].map((unit): readonly [string, Bits] => [
    unit,
    [[[0x1], 'ignore', ''], [[0x2], 'ignore', SUPPORT], [[0x4], 'reset', SUPPORT], REPORT_SW],
  ]),
  ['TREX', [[[0x1], 'ignore', SUPPORT], REPORT_SW]],
  ['NVLPW_CTRL', [REPORT_SW]],
]);

/** NETIR_MFDE_EVENT: whole values of the error status, not bits. */
const MFDE_RESET = [0x1, 0x4, 0x5, 0x7];

/** NETIR_LINK_EVT: why the link went down, in bits 20 to 25 of the first word, for drivers before and since R575. */
// biome-ignore format: a table, one cause a line
const linkDown: ReadonlyMap<number, readonly [outcome: Outcome, investigate: string]> = new Map<number, readonly [Outcome, string]>([
  [0b000000, ['reset', 'report where it comes alone']],
  [0b000001, ['reset', 'report where it comes more than once a day']],
  ...[0b000010, 0b000100, 0b001010].map((cause) => [cause, ['reset', LINK_SIGNAL]] as const),
  ...[0b001111, 0b010001, 0b010110].map((cause) => [cause, ['reset', USER]] as const),
  ...[0b010000, 0b010010].map((cause) => [cause, ['reset', `${USER}; or ${LINK_SIGNAL}`]] as const),
  ...[0b010101, 0b100000, 0b100001, 0b100010, 0b100011, 0b100100, 0b100101].map((cause) => [cause, ['reset', PEER]] as const),
  [0b100110, ['ignore', USER]],
  [0b101000, ['ignore', 'look at the host']],
  ...[0b101010, 0b101011].map((cause) => [cause, ['reset', LINK_SIGNAL]] as const),
]);

/**
 * RLW_RXPIPE with one more bit of the first word set is fatal. Subcodes moved at driver R575: before it the low ten
 * bits are 0011000010 and the bit is the 11th, since then the low seven bits are 0000110 and it is the 8th.
 */
const RXPIPE_FATAL = [
  { mask: 0x7ff, value: 0b100_1100_0010 },
  { mask: 0xff, value: 0b1000_0110 },
];

/**
 * The verdict on the words of a line. The driver's word Fatal is never lowered to less than a reset, except for the
 * causes of a link that went down which NVIDIA's table itself says to ignore.
 */
export function nvlink5Verdict(words: Nvlink5Words): Nvlink5Verdict {
  const decoded = decode(words);
  const [said, investigate] = decoded ?? (['ignore', ''] as const);
  const raised = words.fatal && (decoded === undefined || !words.unit.startsWith('NETIR_LINK_EVT'));
  const outcome = raised ? 'reset' : said;
  if (outcome === 'reset') return { severity: 'critical', action: ACTION.reset, investigate };
  return {
    severity: decoded !== undefined && investigate === '' && outcome === 'ignore' ? 'info' : 'warning',
    action: ACTION[outcome],
    investigate,
  };
}

function decode({ xid, unit, intrInfo, errorStatus }: Nvlink5Words): readonly [Outcome, string] | undefined {
  const name = unit.split('/')[0]!;
  if (xid === 150) return ['reset', SUPPORT];
  if (intrInfo === undefined) return undefined;
  if (name === 'NETIR_LINK_EVT') return linkDown.get((intrInfo >>> 20) & 0x3f);
  if (name === 'NETIR') return ['reset', 'report where it comes alone'];
  if (name === 'NETIR_BER_EVENT') return ['ignore', LINK_SIGNAL];
  if (errorStatus === undefined) return undefined;
  if (name === 'NETIR_MFDE_EVENT')
    return MFDE_RESET.includes(errorStatus)
      ? ['reset', SUPPORT]
      : errorStatus === 3
        ? ['ignore', '']
        : undefined;
  if (name === 'RLW_RXPIPE' && RXPIPE_FATAL.some(({ mask, value }) => (intrInfo & mask) === value))
    return ['reset', SUPPORT];
  return worstBit(byUnit.get(name), errorStatus);
}

/** Several bits may be set: the worst decides. */
function worstBit(bits: Bits | undefined, status: number): readonly [Outcome, string] | undefined {
  const set = (bits ?? []).filter(([values]) => values.some((value) => (status & value) !== 0));
  const worst = (['reset', 'by_154', 'ignore'] as const)
    .map((outcome) => set.find(([, one]) => one === outcome))
    .find((found) => found !== undefined);
  return worst && [worst[1], worst[2]];
}
