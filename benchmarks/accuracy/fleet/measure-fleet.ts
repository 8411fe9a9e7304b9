import { type FleetPart, NODES_PER_PART, WEEK_SECONDS } from './fleet-plan.ts';
import type { Finding } from './judge.ts';
import type { Alarm } from './watch.ts';
import { watchParts } from './watch-parts.ts';

export interface FleetSize {
  /** Faults, one on each node. */
  readonly faults: number;
  /** Nodes without faults, and for how long each is watched. */
  readonly quietNodes: number;
  readonly quietSeconds: number;
}

export interface FleetResult {
  /** Of the nodes without faults. */
  readonly gpuWeeks: number;
  readonly falseAlarms: readonly Alarm[];
  readonly findings: readonly Finding[];
  /** The same faults, with the events that tell of them kept from health and detection. */
  readonly samplesAlone: readonly Finding[];
  /** On nodes that get a fault later, before they do. */
  readonly earlyAlarms: readonly Alarm[];
}

const PROGRESS_MS = 10_000;

/** Runs both fleets; the same seed and size give the same result. */
export async function measureFleet(
  seed: number,
  size: FleetSize,
  log: (line: string) => void,
): Promise<FleetResult> {
  const parts = [
    ...partsOf(seed, size.faults, true, 0),
    ...partsOf(seed, size.quietNodes, false, size.quietSeconds),
  ];
  const startMs = performance.now();
  let saidMs = startMs;
  let gpuSeconds = 0;
  const results = await watchParts(parts, (finished, result) => {
    gpuSeconds += result.gpuSeconds;
    if (performance.now() - saidMs < PROGRESS_MS) return;
    saidMs = performance.now();
    log(
      `  fleet: ${finished} of ${parts.length} parts, ${weeks(gpuSeconds).toFixed(0)} GPU-weeks in ${((saidMs - startMs) / 1000).toFixed(0)} s`,
    );
  });
  const quiet = results.filter((_, i) => !parts[i]!.faulty);
  const faulty = results.filter((_, i) => parts[i]!.faulty);
  return {
    gpuWeeks: weeks(quiet.reduce((sum, one) => sum + one.gpuSeconds, 0)),
    falseAlarms: quiet.flatMap(({ falseAlarms }) => falseAlarms),
    findings: faulty.flatMap(({ findings }) => findings),
    samplesAlone: faulty.flatMap(({ samplesAlone }) => samplesAlone),
    earlyAlarms: faulty.flatMap(({ falseAlarms }) => falseAlarms),
  };
}

function partsOf(seed: number, nodes: number, faulty: boolean, seconds: number): FleetPart[] {
  return Array.from({ length: Math.ceil(nodes / NODES_PER_PART) }, (_, index) => ({
    seed,
    index,
    faulty,
    nodes: Math.min(NODES_PER_PART, nodes - index * NODES_PER_PART),
    seconds,
  }));
}

function weeks(gpuSeconds: number): number {
  return gpuSeconds / WEEK_SECONDS;
}
