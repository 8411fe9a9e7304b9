import { type Labels, labelOf } from '#shared/model/dictionary.ts';
import { Interned } from '#shared/wire/intern.ts';

/** Series that may stand for an input, best first. */
type Candidates = readonly (readonly [metric: string, labels?: Readonly<Record<string, string>>])[];

/**
 * What detectors know of a GPU at a moment: the newest value of each of these. Several series may stand for one; where
 * a GPU has more than one of them, the first named is taken.
 */
const FRAME_SERIES = {
  core: [
    ['gpu_temperature_celsius', { sensor: 'core' }],
    ['gpu_temperature_celsius', { sensor: 'hotspot' }],
  ],
  memory: [['gpu_temperature_celsius', { sensor: 'memory' }]],
  power: [['gpu_power_watts']],
  instant: [['gpu_power_instant_watts']],
  energy: [['gpu_energy_joules_total']],
  // What the board is made for: a limit that policy sets must not move the scale.
  rated: [
    ['gpu_power_limit_watts', { limit: 'default' }],
    ['gpu_power_limit_watts', { limit: 'max' }],
    ['gpu_power_limit_watts', { limit: 'enforced' }],
  ],
  clock: [['gpu_clock_hertz', { domain: 'sm' }]],
  clockMax: [['gpu_clock_limit_hertz', { domain: 'sm', limit: 'max' }]],
  reasons: [['gpu_clock_event_reasons']],
  busy: [
    ['gpu_utilization_ratio', { task: 'general' }],
    ['gpu_utilization_ratio', {}],
    ['gpu_engine_active_ratio'],
  ],
  work: [['gpu_sm_active_ratio']],
  fan: [['gpu_fan_ratio']],
  width: [['gpu_pcie_link_width']],
  widthMax: [['gpu_pcie_link_width_max']],
  up: [['gpu_up']],
} as const satisfies Record<string, Candidates>;

export type FrameName = keyof typeof FRAME_SERIES;

export const FRAME_NAMES = Object.keys(FRAME_SERIES) as FrameName[];
export const FRAME_WIDTH = FRAME_NAMES.length;
/** Place of each input in a GPU's row. */
export const FRAME = Object.fromEntries(FRAME_NAMES.map((name, index) => [name, index])) as Record<
  FrameName,
  number
>;

/** The same on each GPU of a fleet: kept once. */
const SIGNALS = new Interned();

/** Not a MIG instance: a part of a GPU says nothing of the board. */
export function isWholeGpu(labels: Labels): boolean {
  return !labelOf(labels, 'mig_id');
}

/** A metric with the labels that tell it apart from others of the same GPU: `gpu_temperature_celsius{sensor="core"}`. */
export function signalOf(name: string, labels: Labels): string {
  const own = labels.filter(([label]) => label !== 'gpu' && label !== 'uuid' && label !== 'model');
  if (own.length === 0) return name;
  return SIGNALS.of(`${name}{${own.map(([label, value]) => `${label}="${value}"`).join(',')}}`);
}

export interface FrameSlot {
  readonly input: number;
  /** 0 is the best candidate. */
  readonly rank: number;
}

/** Which input a series is, or undefined. */
export function frameSlotOf(name: string, labels: Labels): FrameSlot | undefined {
  return BY_METRIC.get(name)?.find(({ wanted }) =>
    wanted.every(([label, value]) => labelOf(labels, label) === value),
  );
}

const BY_METRIC = new Map<string, (FrameSlot & { readonly wanted: Labels })[]>();
for (const [input, name] of FRAME_NAMES.entries()) {
  const candidates: Candidates = FRAME_SERIES[name];
  for (const [rank, [metric, labels = {}]] of candidates.entries()) {
    const list = BY_METRIC.get(metric) ?? [];
    list.push({ input, rank, wanted: Object.entries(labels) });
    BY_METRIC.set(metric, list);
  }
}

/** The GPU that a series is of; undefined for a series of the node. Without a UUID, the place stands for the GPU. */
export function gpuOf(
  node: { readonly cluster: string; readonly node: string },
  labels: Labels,
): { readonly gpu: string; readonly uuid: string; readonly model: string } | undefined {
  const gpu = labelOf(labels, 'gpu') ?? '';
  const uuid = labelOf(labels, 'uuid') ?? (gpu === '' ? '' : `${node.cluster}/${node.node}/${gpu}`);
  return uuid === '' ? undefined : { gpu, uuid, model: labelOf(labels, 'model') ?? '' };
}
