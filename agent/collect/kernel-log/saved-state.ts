import type { FleetEvent } from '#shared/model/event.ts';
import type { Facts } from '../source-kind.ts';
import type { Incident } from './incidents.ts';
import type { KernelEventsState } from './kernel-events.ts';
import type { Storm } from './storms.ts';

/** Where a collector was when it was last sure that what it read is on record. */
export interface SavedState extends KernelEventsState {
  readonly boot: string;
  /** `kmsg` or `journal`: a cursor of one is nothing to the other. */
  readonly from: string;
  readonly cursor: string;
  /** Of the newest line that was read. */
  readonly usec: number;
  readonly wallMs: number;
  readonly driftMs: number;
}

const NAME = 'kernel_log/state';
const DUMPS = 'kernel_log/dumps';
/** Storms and incidents that outlive a restart: the newest. Some 100 KiB at most. */
const MAX_KEPT = 64;
const MAX_KEPT_TEXT = 512;
/** Crashes that were reported, the newest: more than a pstore holds. */
const MAX_DUMPS = 64;

/** Undefined where there is none, or it is not what this version writes. */
export function loadState(facts: Facts): SavedState | undefined {
  const state = parsed(facts.get(NAME));
  if (typeof state !== 'object' || state === null) return undefined;
  const { boot, from, cursor, usec, wallMs, driftMs, incidents, storms } = state as Partial<SavedState>;
  if (typeof boot !== 'string' || typeof from !== 'string' || typeof cursor !== 'string') return undefined;
  if (![usec, wallMs, driftMs].every(Number.isFinite)) return undefined;
  if (!Array.isArray(incidents) || !Array.isArray(storms)) return undefined;
  return { boot, from, cursor, usec: usec!, wallMs: wallMs!, driftMs: driftMs!, incidents, storms };
}

export function saveState(facts: Facts, state: SavedState): void {
  const incidents: readonly Incident[] = state.incidents.slice(-MAX_KEPT);
  // Those that hold something back first: it must not be lost.
  const holding = [...state.storms].sort((a, b) => Number(a.held > 0) - Number(b.held > 0)).slice(-MAX_KEPT);
  const storms: readonly Storm<FleetEvent>[] = holding.map((storm) => ({
    ...storm,
    event: { ...storm.event, text: storm.event.text.slice(0, MAX_KEPT_TEXT) },
  }));
  facts.set(NAME, JSON.stringify({ ...state, incidents, storms }));
}

/** Ids of the crash dumps that were reported. */
export function reportedDumps(facts: Facts): readonly string[] {
  const ids = parsed(facts.get(DUMPS));
  return Array.isArray(ids) ? ids.filter((id): id is string => typeof id === 'string') : [];
}

export function saveReportedDumps(facts: Facts, ids: readonly string[]): void {
  facts.set(DUMPS, JSON.stringify(ids.slice(-MAX_DUMPS)));
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
