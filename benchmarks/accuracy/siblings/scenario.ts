import type { FaultKind, ScriptedFault } from '../../../agent/collect/simulated/faults.ts';
import { Prng } from '../../../agent/collect/simulated/prng.ts';
import type { GpuModel } from '../../../agent/collect/simulated/profiles.ts';
import type { LoadPattern } from '../../../agent/collect/simulated/workload.ts';

export const GPUS = 8;

/** Part of a node: GPUs that share a job. */
export interface Share {
  readonly gpus: number;
  readonly load: LoadPattern;
  readonly faults: readonly ScriptedFault[];
}

/** One run of one node. */
export interface Scenario {
  readonly seed: number;
  readonly model: GpuModel;
  /** Whether the scheduler's labels say who shares a job. */
  readonly jobsKnown: boolean;
  readonly shares: readonly Share[];
  readonly seconds: number;
  /** What is to be found; undefined where nothing is. */
  readonly truth:
    | { readonly kind: string; readonly gpu: number; readonly from: number; readonly to: number }
    | undefined;
  readonly what: string;
}

const MODELS: readonly GpuModel[] = ['A100', 'H100', 'H200', 'MI300X'];
const LOADS: readonly LoadPattern[] = ['jobs', 'jobs', 'steady', 'diurnal'];

/**
 * Weights: of what Minder (NSDI '25) reports, ECC 25.7 % and PCIe 8.6 % as they are; its CUDA and GPU execution errors
 * (25 %), which slow one machine and have no fault of their own here, as the slow GPUs that the simulation has; the
 * others share what is left evenly.
 */
const MIX: readonly (readonly [FaultKind, number])[] = [
  ['ecc_burst', 12.85],
  ['ecc_corrected', 12.85],
  ['straggler', 12.5],
  ['power_brake', 12.5],
  ['pcie_downtrain', 8.6],
  ['thermal_runaway', 8.14],
  ['fan_failure', 8.14],
  ['nvlink_down', 8.14],
  ['nvlink_flap', 8.14],
  ['memory_full', 8.14],
];
/** AMD's source here has no error counters of links: a flap of 30 s, read every 30 s, is in no figure. */
const NOT_ON_AMD: ReadonlySet<FaultKind> = new Set(['nvlink_flap']);
/** Memory in use is only comparable inside a job that is known to be one. */
const NEEDS_JOBS: ReadonlySet<FaultKind> = new Set(['memory_full']);

/** Of the whole node: nobody is unlike the others. */
const COMMON: readonly FaultKind[] = [
  'job_stop',
  'job_start',
  'driver_reload',
  'power_brake',
  'thermal_runaway',
  'straggler',
];

/** A third of the seeds with one GPU at fault, a third with a fault of the whole node, a third with none. */
export function scenarioOf(seed: number): Scenario {
  const random = new Prng(seed, 'scenario');
  const model = MODELS[random.below(MODELS.length)]!;
  const jobsKnown = random.unit() < 0.5;
  const load = LOADS[random.below(LOADS.length)]!;
  const from = Math.round(random.between(60, 120)) * 60;
  const seconds = Math.round(random.between(30, 60)) * 60;
  const base = { seed, model, jobsKnown, seconds: from + seconds + 1800, truth: undefined };
  const whole = (faults: readonly ScriptedFault[]): Share[] => [{ gpus: GPUS, load, faults }];
  if (seed % 3 === 0) {
    const kind = drawFault(random, model, jobsKnown);
    const gpu = random.below(GPUS);
    const shares = whole([{ kind, gpu, at: from, duration: seconds * 1000 }]);
    return { ...base, shares, truth: { kind, gpu, from, to: from + seconds }, what: kind };
  }
  if (seed % 3 === 1) {
    const kind = COMMON[random.below(COMMON.length)]!;
    const duration = kind === 'job_start' ? undefined : kind === 'driver_reload' ? 20_000 : seconds * 1000;
    const everywhere = kind === 'job_stop' || kind === 'job_start' || kind === 'driver_reload';
    const gpus = everywhere ? [0] : Array.from({ length: GPUS }, (_, gpu) => gpu);
    return {
      ...base,
      shares: whole(gpus.map((gpu) => ({ kind, gpu, at: from, duration }))),
      what: `${kind} of the node`,
    };
  }
  return { ...base, ...quiet(random, load, whole([])) };
}

/** Nothing is wrong: one job, two jobs, or a job that leaves some GPUs idle. */
function quiet(random: Prng, load: LoadPattern, whole: readonly Share[]): Pick<Scenario, 'shares' | 'what'> {
  const way = random.below(4);
  if (way < 2) return { shares: whole, what: 'one job' };
  const gpus = 1 + random.below(4);
  const idle: ScriptedFault = { kind: 'job_stop', at: 0 };
  const second: Share = { gpus, load: way === 2 ? 'jobs' : load, faults: way === 2 ? [] : [idle] };
  return {
    shares: [{ gpus: GPUS - gpus, load, faults: [] }, second],
    what: way === 2 ? 'two jobs' : 'some GPUs idle',
  };
}

function drawFault(random: Prng, model: GpuModel, jobsKnown: boolean): FaultKind {
  const possible = MIX.filter(
    ([kind]) => !(model === 'MI300X' && NOT_ON_AMD.has(kind)) && (jobsKnown || !NEEDS_JOBS.has(kind)),
  );
  let left = random.unit() * possible.reduce((all, [, weight]) => all + weight, 0);
  for (const [kind, weight] of possible) {
    left -= weight;
    if (left < 0) return kind;
  }
  return possible.at(-1)![0];
}
