import { metricNamed } from '#shared/catalogue/metrics.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Labels, Series } from '#shared/model/dictionary.ts';
import { AMD_COLUMNS } from './amd-columns.ts';
import type { Column } from './column.ts';
import type { SimulatedGpu } from './gpu.ts';
import { NVIDIA_COLUMNS } from './nvidia-columns.ts';
import type { Vendor } from './profiles.ts';

/** The labels that tell a board from any other: gpu, uuid, model, and what gpu_info carries besides. */
export interface GpuIdentity {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly facts: Readonly<Record<string, string>>;
}

/** A column that is ready to be read: no lookups, no decisions about the metric. */
export interface Reader {
  readonly read: Column['read'];
  readonly sensor: boolean;
  readonly outlives: boolean;
  /** 10^|decimals| of the metric. */
  readonly power: number;
  /** The metric's values end in zeros (whole MHz): round to multiples of `power`. */
  readonly multiples: boolean;
}

const COLUMNS: Record<Vendor, readonly Column[]> = { nvidia: NVIDIA_COLUMNS, amd: AMD_COLUMNS };

const readersOf = (columns: readonly Column[]): Reader[] =>
  columns.map(({ name, read, sensor, outlives }) => {
    const { decimals } = catalogued(name);
    return { read, sensor, outlives, power: 10 ** Math.abs(decimals), multiples: decimals < 0 };
  });

/** One reader for each series of a GPU, in the order of `seriesOf`. */
export const READERS: Readonly<Record<Vendor, readonly Reader[]>> = {
  nvidia: readersOf(NVIDIA_COLUMNS),
  amd: readersOf(AMD_COLUMNS),
};

/** The counters that fall to zero when the driver is loaded again, each name once. */
export function fallingCounters(vendor: Vendor): string[] {
  return [...new Set(COLUMNS[vendor].filter(({ falls }) => falls).map(({ name }) => name))];
}

/**
 * As the catalogue codes it: the nearest value with the metric's decimals, so that scaled integers carry it
 * exactly. Adding 0 turns -0 into 0.
 */
export function codedValue({ read, power, multiples }: Reader, gpu: SimulatedGpu): number {
  const value = read(gpu);
  return (multiples ? Math.round(value / power) * power : Math.round(value * power) / power) + 0;
}

export function seriesOf(identity: GpuIdentity, vendor: Vendor): Series[] {
  const { gpu, uuid, model, facts } = identity;
  return COLUMNS[vendor].map(({ name, labels }) => {
    const { kind, decimals, unit, help } = catalogued(name);
    const extra = kind === 'info' ? facts : labels;
    return { name, labels: sorted({ gpu, uuid, model, ...extra }), kind, decimals, unit, help };
  });
}

function sorted(labels: Readonly<Record<string, string>>): Labels {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}

function catalogued(name: string) {
  const metric = metricNamed(name);
  if (!metric) throw new FleetError('internal', `Cannot simulate ${name}: it is not in the catalogue`);
  return metric;
}
