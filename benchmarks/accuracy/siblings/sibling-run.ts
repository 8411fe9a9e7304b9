import type { Source } from '#shared/model/block.ts';
import {
  createSimulatedCollector,
  type SimulatedCollector,
} from '../../../agent/collect/simulated/collector.ts';
import { Prng } from '../../../agent/collect/simulated/prng.ts';
import type { Finding } from '../../../aggregator/health/detect/anomaly.ts';
import { READING, READINGS } from '../../../aggregator/health/peers/peer-row.ts';
import { PeerRows } from '../../../aggregator/health/peers/peer-rows.ts';
import { PeerWatch } from '../../../aggregator/health/peers/peer-watch.ts';
import type { Scenario, Share } from './scenario.ts';

const INTERVAL_MS = 30_000;
/** 2026-01-05 09:00 UTC. */
const BEGIN_MS = 1_767_603_600_000;
/** An alarm that comes so soon after the end of the fault is of it: windows and heat sinks hold that long. */
const GRACE_SECONDS = 300;

/** Rows that never come, and rows in which one reading is wild: own judgement of a source that is read under load. */
const LOST_ROWS = 0.01;
const WILD_ROWS = 0.005;
/** Times the reading, or none of it. */
const WILD_FACTORS = [0, 0.5, 1.5];

/** An alarm as it was raised. */
export interface Alarm {
  readonly gpu: number;
  readonly seconds: number;
  readonly finding: Finding;
}

export interface RunResult {
  readonly scenario: Scenario;
  /** Seconds from the fault's begin until its GPU was named; undefined where it never was. */
  readonly delay: number | undefined;
  readonly falseAlarms: readonly Alarm[];
  readonly rightAlarms: readonly Alarm[];
}

interface Part {
  readonly collector: SimulatedCollector;
  readonly rows: PeerRows;
  readonly source: Source;
  readonly first: number;
  readonly random: Prng;
}

/** A node through a scenario, read every 30 s of its own time by a source that loses rows and misreads; scored as Minder scores. */
export async function siblingRun(scenario: Scenario): Promise<RunResult> {
  let nowMs = BEGIN_MS;
  const clock = { now: () => nowMs, monotonic: () => nowMs };
  let first = 0;
  const parts = scenario.shares.map((share): Part => {
    const part = partOf(scenario, share, first, clock);
    first += share.gpus;
    return part;
  });
  const watch = new PeerWatch({ maxGpus: first, intervalMs: INTERVAL_MS });
  const raised = new Set<number>();
  const alarms: Alarm[] = [];
  const signal = new AbortController().signal;
  for (let seconds = 0; seconds <= scenario.seconds; seconds += INTERVAL_MS / 1000) {
    nowMs = BEGIN_MS + seconds * 1000;
    for (const part of parts) await feed(watch, scenario, part, signal, nowMs);
    watch.round(nowMs);
    for (let gpu = 0; gpu < first; gpu++) note(watch, gpu, seconds, raised, alarms);
  }
  return scored(scenario, alarms);
}

function partOf(
  { seed, model }: Scenario,
  share: Share,
  first: number,
  clock: { now: () => number; monotonic: () => number },
): Part {
  const collector = createSimulatedCollector({
    node: `n${first}`,
    gpus: share.gpus,
    model,
    seed,
    intervalMs: INTERVAL_MS,
    faults: share.faults,
    load: share.load,
    clock,
  });
  const source = { cluster: 'c', node: `n${first}`, externalLabels: [] };
  return { collector, rows: new PeerRows(), source, first, random: new Prng(seed, first, 'source') };
}

async function feed(
  watch: PeerWatch,
  { model, jobsKnown }: Scenario,
  { collector, rows, source, first, random }: Part,
  signal: AbortSignal,
  nowMs: number,
): Promise<void> {
  rows.evaluate({ source, live: true, ...(await collector.collect(signal)) });
  const { machine } = collector;
  const job = jobsKnown && machine.job !== undefined ? `${first}/${machine.job.job}` : '';
  for (const { slot: index, readings } of rows.fresh(nowMs, () => '')) {
    // A GPU that cannot be read gives no row.
    if (Number.isNaN(readings[READING.coreCelsius]!) || random.unit() < LOST_ROWS) continue;
    if (random.unit() < WILD_ROWS) {
      const factor = WILD_FACTORS[random.below(WILD_FACTORS.length)]!;
      readings[random.below(READINGS)]! *= factor;
    }
    const slot = first + index;
    watch.take({ uuid: `gpu-${slot}`, cluster: 'c', node: 'n', slot, model, pool: '', job, readings }, nowMs);
  }
}

function note(watch: PeerWatch, gpu: number, seconds: number, raised: Set<number>, alarms: Alarm[]): void {
  const [finding] = watch.findingsOf(`gpu-${gpu}`);
  if (finding === undefined) raised.delete(gpu);
  else if (!raised.has(gpu)) {
    raised.add(gpu);
    alarms.push({ gpu, seconds, finding });
  }
}

function scored(scenario: Scenario, alarms: readonly Alarm[]): RunResult {
  const { truth } = scenario;
  const right = ({ gpu, seconds }: Alarm): boolean =>
    truth !== undefined && gpu === truth.gpu && seconds >= truth.from && seconds <= truth.to + GRACE_SECONDS;
  const rightAlarms = alarms.filter(right);
  const firstRight = rightAlarms[0];
  const found = firstRight !== undefined && firstRight.seconds <= truth!.to;
  return {
    scenario,
    delay: found ? firstRight.seconds - truth!.from : undefined,
    falseAlarms: alarms.filter((alarm) => !right(alarm)),
    rightAlarms,
  };
}
