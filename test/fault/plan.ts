import { seededRandom } from '../support/random.ts';
import type { Fault, FaultKind } from './fault.ts';
import { type Item, layOut, shuffled } from './lane-layout.ts';
import {
  agentItems,
  aggregatorLane,
  clockItems,
  fullItems,
  longCuts,
  serverItems,
  smallRingBytes,
  storeLane,
  withSteps,
  wornItems,
} from './lanes.ts';

export interface Plan {
  readonly seed: number;
  readonly minutes: number;
  readonly faults: readonly Fault[];
  /** The node whose ring is small: a long cut makes it trim. */
  readonly smallRingNode: string;
  readonly smallRingBytes: number;
  /** Nodes that run from the start. */
  readonly nodes: readonly string[];
  /** Nodes that begin on a copy of another one's disk. */
  readonly clones: readonly string[];
}

/** Agents that run from the start. */
const AGENTS = 4;
/** Everything must be up and sending before the first fault, and again before the comparison. */
const FIRST_FAULT_S = 8;
const LAST_SHARE = 0.95;

/**
 * The faults of a run: a pure function of its seed and length. Each target has a lane of its own, in which one
 * fault is undone before the next begins; lanes overlap as they please. In two minutes each kind comes once.
 */
export function makePlan(seed: number, minutes: number): Plan {
  const random = seededRandom(seed);
  const lengthS = minutes * 60;
  const [fromS, toS] = [FIRST_FAULT_S, Math.floor(lengthS * LAST_SHARE)];
  const roles = shuffled(
    Array.from({ length: AGENTS }, (_, index) => `oracle-${index}`),
    random,
  );
  const [clockNode, wornNode, smallRingNode, fullNode] = roles as [string, string, string, string];
  const clones: string[] = [];
  const lane = (target: string, items: readonly Item[]): Fault[] =>
    layOut(items, fromS, toS, random).map((placed) => ({ ...placed, target }));
  const store = storeLane(lengthS, fromS, toS, random);
  const faults = [
    ...store,
    ...lane('nats', serverItems(lengthS, 400, random)),
    ...aggregatorLane(lengthS, fromS, toS, store.filter(({ kind }) => kind === 'stop').sort(byTime), random),
    ...withSteps(lane(clockNode, [...clockItems(lengthS), ...agentItems(lengthS, random)]), lengthS, random),
    ...lane(wornNode, [...wornItems(lengthS, random), ...agentItems(lengthS, random)]),
    ...lane(smallRingNode, [...longCuts(lengthS, random), ...agentItems(lengthS, random)]),
    ...lane(fullNode, [...fullItems(lengthS, clones, random), ...agentItems(lengthS, random)]),
  ];
  faults.sort(byTime);
  return {
    seed,
    minutes,
    faults,
    smallRingNode,
    smallRingBytes: smallRingBytes(lengthS),
    nodes: roles.sort(),
    clones,
  };
}

const byTime = (a: Fault, b: Fault): number => a.atS - b.atS || (a.target < b.target ? -1 : 1);

/** The plan with faults of these kinds alone; all of it where none are named. */
export function only(plan: Plan, kinds: readonly FaultKind[] | undefined): Plan {
  return kinds ? { ...plan, faults: plan.faults.filter(({ kind }) => kinds.includes(kind)) } : plan;
}

/**
 * Seconds of the whole fleet's samples that these faults oblige the product to send a second time: what a new
 * store incarnation or a restarted agent cannot know to be durable, by rule at most 30 s and the 5 s between two
 * marks, and a few for a catch-up in between.
 */
export function forcedRepeatS(plan: Plan): number {
  const perRestart = 40;
  let seconds = 0;
  for (const { kind, target } of plan.faults) {
    if (target === 'store' && (kind === 'kill' || kind === 'restore-store')) seconds += perRestart;
    else if (['kill', 'corrupt', 'clone-disk'].includes(kind) && target.startsWith('oracle-'))
      seconds += perRestart / AGENTS;
  }
  return seconds;
}

/**
 * Seconds of one node's samples that loss records may claim although the store has them: where records leave an
 * agent's disk, those of the last 30 s had been accepted, and the agent cannot know yet that this was for good.
 */
export function undecidedS(plan: Plan): number {
  const lossy = plan.faults.filter(
    ({ kind, target }) =>
      kind === 'corrupt' ||
      kind === 'reimage' ||
      kind === 'fill-disk' ||
      (kind === 'partition' && target === plan.smallRingNode),
  );
  return 45 * lossy.length;
}
