import { type Dictionary, type Labels, labelOf } from '#shared/model/dictionary.ts';

/** The slots of one dictionary that are about one GPU. */
export interface GpuSlots {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** Every slot of the GPU, MIG instances included. */
  readonly slots: readonly number[];
  /** What gpu_info says beyond identity. */
  readonly info: Labels;
}

const IDENTITY = new Set(['gpu', 'uuid', 'model']);
const compiled = new WeakMap<Dictionary, readonly GpuSlots[]>();

/** The GPUs of a dictionary, found at first use. Canonical labels, or those of dcgm-exporter where it kept its names. */
export function gpusOf(dictionary: Dictionary): readonly GpuSlots[] {
  let gpus = compiled.get(dictionary);
  if (!gpus) {
    gpus = findGpus(dictionary);
    compiled.set(dictionary, gpus);
  }
  return gpus;
}

function findGpus(dictionary: Dictionary): GpuSlots[] {
  const byKey = new Map<
    string,
    { gpu: string; uuid: string; model: string; slots: number[]; info: Labels }
  >();
  dictionary.series.forEach(({ name, labels }, slot) => {
    const uuid = labelOf(labels, 'uuid') ?? labelOf(labels, 'UUID') ?? '';
    const index = labelOf(labels, 'gpu') ?? '';
    if (uuid === '' && index === '') return;
    const key = uuid || index;
    let gpu = byKey.get(key);
    if (!gpu) {
      gpu = { gpu: index, uuid, model: '', slots: [], info: [] };
      byKey.set(key, gpu);
    }
    gpu.model ||= labelOf(labels, 'model') ?? labelOf(labels, 'modelName') ?? '';
    gpu.gpu ||= index;
    gpu.slots.push(slot);
    if (name === 'gpu_info') gpu.info = labels.filter(([label]) => !IDENTITY.has(label));
  });
  return [...byKey.values()];
}
