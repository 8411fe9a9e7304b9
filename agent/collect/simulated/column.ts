import type { SimulatedGpu } from './gpu.ts';

/** One series of every GPU. */
export interface Column {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** In the metric's base unit, not yet rounded. */
  readonly read: (gpu: SimulatedGpu) => number;
  /** Repeats its last value while the GPU's sensors are frozen. */
  readonly sensor: boolean;
  /** Reported also when the GPU is lost. */
  readonly outlives: boolean;
  /** A counter of the driver: falls to zero when that is loaded again. */
  readonly falls: boolean;
}

type Read = Column['read'];

export const column = (name: string, labels: Column['labels'], read: Read): Column => ({
  name,
  labels,
  read,
  sensor: false,
  outlives: false,
  falls: false,
});

export const sensor = (name: string, labels: Column['labels'], read: Read): Column => ({
  ...column(name, labels, read),
  sensor: true,
});

export const sinceLoad = (name: string, labels: Column['labels'], read: Read): Column => ({
  ...column(name, labels, read),
  falls: true,
});

export const GPU_UP: Column = {
  ...column('gpu_up', {}, (gpu) => (gpu.conditions.lost ? 0 : 1)),
  outlives: true,
};

export const MEBIBYTE = 2 ** 20;
export const MEGAHERTZ = 1e6;
