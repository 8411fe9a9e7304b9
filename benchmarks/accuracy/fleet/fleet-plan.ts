import {
  effectOf,
  FAULTS,
  type FaultKind,
  type ScriptedFault,
} from '../../../agent/collect/simulated/faults.ts';
import { Prng } from '../../../agent/collect/simulated/prng.ts';
import { GPU_PROFILES, type GpuModel } from '../../../agent/collect/simulated/profiles.ts';
import type { LoadPattern } from '../../../agent/collect/simulated/workload.ts';

export const INTERVAL_MS = 30_000;
export const GPUS_PER_NODE = 8;
export const NODES_PER_PART = 8;

const HOUR = 3600;
export const WEEK_SECONDS = 7 * 24 * HOUR;
/** A fault is found late, but found, until so long after its end. */
export const GRACE_SECONDS = 600;
/** Of history before a fault: detectors that learn have learned by then. Own judgement. */
const LEARNING_SECONDS = 12 * HOUR;
/** A fault begins within this after the learning, and lasts so long where its kind does not say: own judgement. */
const BEGINS_WITHIN_SECONDS = 6 * HOUR;
const LASTS_SECONDS = [1800, 7200] as const;

const MODELS: readonly GpuModel[] = ['A100', 'H100', 'H200', 'MI300X'];
/** Trainings one after another are twice as common as the others. */
const LOADS: readonly LoadPattern[] = ['jobs', 'jobs', 'steady', 'diurnal', 'bursty'];

/** What happens to healthy GPUs: applications fail, fill the memory, jobs come and go. Nobody is to be called for it. */
const BENIGN: readonly FaultKind[] = ['application_xid', 'memory_full', 'job_start', 'job_stop'];
export const FAULT_KINDS: readonly FaultKind[] = (Object.keys(FAULTS) as FaultKind[]).filter(
  (kind) => !BENIGN.includes(kind),
);

/** Some nodes that are watched together, for one time: so much fits into a worker's caches. */
export interface FleetPart {
  readonly seed: number;
  readonly index: number;
  /** Without faults, or with one on each node. */
  readonly faulty: boolean;
  readonly nodes: number;
  /** How long a part without faults is watched. */
  readonly seconds: number;
}

export interface PlannedNode {
  readonly name: string;
  readonly model: GpuModel;
  readonly load: LoadPattern;
  readonly script: readonly ScriptedFault[];
  /** The one that is to be found. */
  readonly fault: PlannedFault | undefined;
}

export interface PlannedFault {
  readonly kind: FaultKind;
  readonly gpu: number;
  /** Seconds after the first read. */
  readonly begins: number;
  readonly ends: number;
  /** All GPUs of the node have it, some more than others: any of them will do. */
  readonly ofNode: boolean;
}

/** The same part gives the same plan. */
export function planOf(part: FleetPart): PlannedNode[] {
  return Array.from({ length: part.nodes }, (_, i) => {
    const number = part.index * NODES_PER_PART + i;
    const name = `${part.faulty ? 'faulty' : 'quiet'}-${number}`;
    const random = new Prng(part.seed, name, 'plan');
    const load = LOADS[random.below(LOADS.length)]!;
    return part.faulty
      ? faultyNode(name, number, load, random)
      : { name, ...quietNode(number, load, part, random), fault: undefined };
  });
}

/** How long the part is watched. */
export function secondsOf(part: FleetPart, plan: readonly PlannedNode[]): number {
  if (!part.faulty) return part.seconds;
  return Math.max(...plan.map(({ fault }) => fault!.ends)) + GRACE_SECONDS;
}

/** Kinds in turn, each over the models in turn. */
function faultyNode(name: string, number: number, load: LoadPattern, random: Prng): PlannedNode {
  const kind = FAULT_KINDS[number % FAULT_KINDS.length]!;
  const effect = effectOf(kind)!;
  const round = Math.floor(number / FAULT_KINDS.length);
  const models = MODELS.filter(
    (one) => (effect.vendor ?? GPU_PROFILES[one].vendor) === GPU_PROFILES[one].vendor,
  );
  const begins = LEARNING_SECONDS + random.between(0, BEGINS_WITHIN_SECONDS);
  const once = Object.keys(effect.conditions).length === 0;
  const lasts = once ? 0 : (effect.seconds ?? random.between(...LASTS_SECONDS));
  const gpu = random.below(GPUS_PER_NODE);
  return {
    name,
    model: models[round % models.length]!,
    load,
    script: [{ at: begins, gpu, kind, ...(once ? {} : { duration: lasts * 1000 }) }],
    fault: { kind, gpu, begins, ends: begins + lasts, ofNode: effect.elsewhere !== undefined },
  };
}

/** One benign happening of each kind. */
function quietNode(
  number: number,
  load: LoadPattern,
  { seconds }: FleetPart,
  random: Prng,
): Pick<PlannedNode, 'model' | 'load' | 'script'> {
  const model = MODELS[number % MODELS.length]!;
  const { vendor } = GPU_PROFILES[model];
  const kinds = BENIGN.filter((kind) => (effectOf(kind)!.vendor ?? vendor) === vendor);
  const script = kinds.map((kind) => {
    const lasts = Object.keys(effectOf(kind)!.conditions).length > 0;
    const duration = random.between(...LASTS_SECONDS) * 1000;
    return {
      at: random.between(0, seconds),
      gpu: random.below(GPUS_PER_NODE),
      kind,
      ...(lasts ? { duration } : {}),
    };
  });
  return { model, load, script };
}
