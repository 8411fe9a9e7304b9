import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  CRITICAL_AFTER_MS,
  CRITICAL_BELOW,
  CRITICAL_CAP,
  DEGRADED_AFTER_MS,
  DEGRADED_BELOW,
  HEALTHY_AFTER_MS,
  HEALTHY_FROM,
  KNOWN_AFTER_MS,
  RECOVERED_AFTER_MS,
  RECOVERED_FROM,
  WARNING_CAP,
} from './state-limits.ts';
import type { TransitionCause } from './transition.ts';

const { UNSPECIFIED, HEALTHY, DEGRADED, CRITICAL, UNKNOWN, FLAPPING } = HealthState;

/** A reset with a passed check, a repair, an operator's decision; a driver that took all GPUs of its node and gave them back. */
export type ClearingCause = 'diagnostic' | 'repair' | 'operator' | 'reload';

/** What a change of state came from. Built only where there is one. */
export interface Circumstances {
  readonly from: HealthState;
  readonly next: HealthState;
  readonly score: number;
  /** 100 where none holds. */
  readonly cap: number;
  /** What the cap stands on, in words; empty where nobody says. */
  readonly capReason: string;
  readonly fresh: boolean;
  readonly confidence: number;
  readonly leastConfidence: number;
  /** The score was low for so long that it is critical by itself. */
  readonly wasLow: boolean;
  /** The score was good for as long as leaving critical takes. */
  readonly wasGood: boolean;
  readonly owesClearing: boolean;
  readonly clearing: ClearingCause | undefined;
}

/** The rule that applied, in a word. */
export function causeOf(its: Circumstances): TransitionCause {
  const { from, next, cap } = its;
  if (next === CRITICAL) {
    if (cap <= CRITICAL_CAP) return 'cap';
    return from === UNKNOWN && its.owesClearing && !its.wasLow ? 'cap' : 'score';
  }
  if (next === UNKNOWN) return 'stale';
  if (from === CRITICAL) return its.clearing === undefined ? 'score' : causeOfClearing(its.clearing);
  if (next === DEGRADED && cap <= WARNING_CAP) return 'cap';
  return from === UNKNOWN ? 'stale' : 'score';
}

/** The rule that applied, in a sentence with its figures. */
export function whyOf(its: Circumstances): string {
  const { from, next, cap, score } = its;
  if (next === CRITICAL && cap <= CRITICAL_CAP) return capped(its, 'a hard cap');
  if (next === UNKNOWN) return whyUnknown(its);
  if (next === CRITICAL && its.wasLow)
    return `the score ${figure(score)} has been below ${CRITICAL_BELOW} for ${CRITICAL_AFTER_MS / 1000} s`;
  switch (from) {
    case UNSPECIFIED:
      return `the first score is ${figure(score)}`;
    case UNKNOWN:
      if (its.owesClearing) return 'it is heard again, and the hard cap of before was never cleared';
      return `it is known again for ${KNOWN_AFTER_MS / 1000} s, with a score of ${figure(score)}`;
    case CRITICAL:
      return whyRecovered(its);
    case DEGRADED:
      return `the score ${figure(score)} has been at least ${HEALTHY_FROM} for ${HEALTHY_AFTER_MS / 60_000} min`;
    default:
      if (cap <= WARNING_CAP) return capped(its, 'a cap');
      return `the score ${figure(score)} has been below ${DEGRADED_BELOW} for ${DEGRADED_AFTER_MS / 1000} s`;
  }
}

/** A score may be lower than its cap by itself. */
function capped({ cap, capReason, score }: Circumstances, what: string): string {
  const because = capReason === '' ? '' : `${capReason}; `;
  const own = score < cap ? ` or less, it is ${figure(score)}` : '';
  return `${because}${what} holds the score at ${figure(cap)}${own}`;
}

function whyUnknown({ from, fresh, confidence, leastConfidence }: Circumstances): string {
  const held = from === CRITICAL ? ', for 24 h by now: no longer held critical' : '';
  if (!fresh) return `no fresh samples${held}`;
  return `${figure(confidence * 100)} % of its signals are known, under ${figure(leastConfidence * 100)} %${held}`;
}

/** Why a critical GPU is degraded. */
export function whyRecovered({
  score,
  wasGood,
  clearing,
}: Pick<Circumstances, 'score' | 'wasGood' | 'clearing'>): string {
  const lasted = wasGood
    ? ` has been at least ${RECOVERED_FROM} for ${RECOVERED_AFTER_MS / 3_600_000} h`
    : ` is at least ${RECOVERED_FROM}`;
  const cleared = clearing === undefined ? '' : `${CLEARED[clearing]}; `;
  return `${cleared}the score ${figure(score)}${lasted}`;
}

export const CLEARED = {
  diagnostic: 'a check after a reset passed',
  repair: 'it was repaired',
  operator: 'an operator cleared it',
  reload: 'the driver was loaded again and gave back all GPUs of the node',
} as const satisfies Record<ClearingCause, string>;

export const STATE_WORDS: Readonly<Record<HealthState, string>> = {
  [UNSPECIFIED]: 'unspecified',
  [HEALTHY]: 'healthy',
  [DEGRADED]: 'degraded',
  [CRITICAL]: 'critical',
  [UNKNOWN]: 'unknown',
  [FLAPPING]: 'flapping',
};

export function causeOfClearing(cause: ClearingCause): TransitionCause {
  return cause === 'operator' ? 'operator' : 'clear';
}

function figure(value: number): string {
  return String(Number(value.toFixed(1)));
}
