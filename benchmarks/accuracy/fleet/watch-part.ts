import type { FleetEvent } from '../../../shared/model/event.ts';
import { FleetNode } from './fleet-node.ts';
import { type FleetPart, GPUS_PER_NODE, INTERVAL_MS, planOf, secondsOf } from './fleet-plan.ts';
import { type Finding, judge } from './judge.ts';
import { type Alarm, Watch } from './watch.ts';

export interface PartResult {
  readonly gpuSeconds: number;
  /** Of nodes without a fault, and of faulty ones before it: nobody should have been told. */
  readonly falseAlarms: readonly Alarm[];
  /** Of a part with faults, one for each, with all events. */
  readonly findings: readonly Finding[];
  /** The same with the events that tell of faults kept from it. */
  readonly samplesAlone: readonly Finding[];
}

const START_MS = Date.UTC(2026, 0, 5);
/** The only event that is not of a fault. */
const TELLS_NOTHING = 'job_change';

/** Runs the nodes of one part, tick by tick as they would come. */
export async function watchPart(part: FleetPart): Promise<PartResult> {
  let nowMs = START_MS;
  const clock = { now: () => nowMs, monotonic: () => nowMs };
  const plan = planOf(part);
  const nodes = plan.map((one) => new FleetNode(one, part.seed, clock));
  const told = new Watch(clock);
  const untold = part.faulty ? new Watch(clock) : undefined;
  const ticks = Math.ceil((secondsOf(part, plan) * 1000) / INTERVAL_MS);
  for (let tick = 0; tick <= ticks; tick++) {
    nowMs = START_MS + tick * INTERVAL_MS;
    for (const node of nodes) {
      const { block, events } = await node.read();
      told.take(node, block, events);
      untold?.take(node, block, withoutTold(events));
    }
    told.advance();
    untold?.advance();
  }
  const verdicts = plan.map((node) => judge(node, told.alarms, START_MS));
  return {
    gpuSeconds: (ticks * INTERVAL_MS * nodes.length * GPUS_PER_NODE) / 1000,
    falseAlarms: verdicts.flatMap(({ falseAlarms }) => falseAlarms),
    findings: verdicts.flatMap(({ finding }) => finding ?? []),
    samplesAlone: untold ? plan.flatMap((node) => judge(node, untold.alarms, START_MS).finding ?? []) : [],
  };
}

const NOTHING: readonly FleetEvent[] = [];

function withoutTold(events: readonly FleetEvent[]): readonly FleetEvent[] {
  return events.length === 0 ? NOTHING : events.filter(({ type }) => type === TELLS_NOTHING);
}
