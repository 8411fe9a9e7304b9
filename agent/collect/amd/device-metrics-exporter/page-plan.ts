import { AMD_CYCLES, type AmdKey, amdFields, CYCLES } from '#shared/catalogue/amd.ts';
import { type Labels, labelOf, type Series } from '#shared/model/dictionary.ts';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { canonicalSeries, sortedLabels } from '../../canonical-series.ts';
import type { Exposition, SampleHead } from '../../prometheus/exposition.ts';
import { toBase } from '../amd-unit.ts';
import { fact, type GpuIdentity, uuidOf } from '../gpu-identity.ts';
import type { ListedGpu } from '../listed-gpus.ts';

/**
 * The driver's UUIDs by the board's serial number, which is all that the exporter knows; in order of PCI addresses: a
 * board of two GPUs (MI250X) has one serial number.
 */
export type Boards = ReadonlyMap<string, readonly string[]>;

/** What becomes of the lines of a page: made anew when they change. */
export interface PagePlan {
  readonly listed: readonly ListedGpu[];
  /** Series beside those of the GPUs: who uses a GPU, and what passes through. */
  readonly others: readonly Series[];
  /** By index in `others`: the line that has its value; -1 where it is always 1. */
  readonly otherLines: Int32Array;
  /** Lines that broke a limit of labels. */
  readonly refused: number;
}

/** The site may give all names a prefix (MetricsFieldPrefix); this one is the usual. */
const PREFIX = /^amd_/;
/** Labels by which one name has several meanings. */
const TELLING = ['hbm_index', 'link_index', 'clock_type'];
/** Who uses a GPU: Kubernetes' and Slurm's labels of the exporter. */
const JOB = ['pod', 'namespace', 'container', 'job_id', 'job_user', 'job_partition', 'cluster_name'];

const wanted: ReadonlySet<string> = new Set([
  ...amdFields('exporter').flatMap(({ keys }) => keys.exporter.map(({ key }) => key)),
  AMD_CYCLES.exporter,
]);

interface Gpu {
  readonly labels: Labels;
  /** By key of the catalogue: the line. */
  readonly lines: Map<string, number>;
  /** Of a clock: the index of the instance that was taken. */
  readonly instances: Map<string, number>;
}

/**
 * A line of a GPU with a name of the catalogue becomes its canonical series; of several clocks of one type the first
 * instance does. Everything else passes through as it is. `values` is read when a GPU's field is asked for.
 */
export function planPage(
  { heads, families }: Exposition,
  values: () => Float64Array,
  boards: Boards = new Map(),
): PagePlan {
  const gpus = new Map<string, Gpu>();
  const jobs = new Map<string, Series>();
  const taken = new Set<number>();
  for (const [line, head] of heads.entries()) claim(head, line, gpus, taken);
  const identities = identitiesOf(gpus, boards);
  const listed = [...gpus].map(([key, gpu]) => listedGpu(identities.get(key)!, gpu, values));
  for (const head of heads) {
    const identity = identities.get(gpuKey(head.labels));
    const job = JOB.map((name) => [name, labelOf(head.labels, name)] as const).filter(([, value]) => value);
    if (!identity || job.length === 0) continue;
    const one = canonicalSeries('gpu_job_info', { ...Object.fromEntries(job), ...identity });
    jobs.set(JSON.stringify(one.labels), one);
  }
  const others = [...jobs.values()].filter((one) => seriesFault(one) === undefined);
  const otherLines = others.map(() => -1);
  let refused = jobs.size - others.length;
  for (const [line, head] of heads.entries()) {
    if (taken.has(line)) continue;
    const one = asGiven(head, families.get(head.name));
    if (seriesFault(one) !== undefined) {
      refused++;
      continue;
    }
    others.push(one);
    otherLines.push(line);
  }
  return { listed, others, otherLines: Int32Array.from(otherLines), refused };
}

/** Empty where the line is of no GPU. A partition has an index of its own. */
function gpuKey(labels: Labels): string {
  const id = labelOf(labels, 'gpu_id');
  if (id === undefined) return '';
  return isPartitioned(labels) ? `${id}.${labelOf(labels, 'gpu_partition_id')}` : id;
}

/** SPX: the whole GPU is its one partition. */
function isPartitioned(labels: Labels): boolean {
  const type = labelOf(labels, 'gpu_compute_partition_type')?.toLowerCase();
  return type !== undefined && type !== 'spx' && /^\d+$/.test(labelOf(labels, 'gpu_partition_id') ?? '');
}

function claim(head: SampleHead, line: number, gpus: Map<string, Gpu>, taken: Set<number>): void {
  const key = gpuKey(head.labels);
  const field = fieldKey(head);
  if (key === '' || field === undefined) return;
  let gpu = gpus.get(key);
  if (!gpu) {
    gpu = { labels: head.labels, lines: new Map(), instances: new Map() };
    gpus.set(key, gpu);
  }
  const before = gpu.lines.get(field);
  const instance = Number(labelOf(head.labels, 'clock_index') ?? 0);
  if (before !== undefined && !(instance < gpu.instances.get(field)!)) return;
  if (before !== undefined) taken.delete(before);
  gpu.lines.set(field, line);
  gpu.instances.set(field, instance);
  taken.add(line);
}

function fieldKey({ name, labels }: SampleHead): string | undefined {
  const plain = name.replace(PREFIX, '').toLowerCase();
  if (wanted.has(plain)) return plain;
  for (const telling of TELLING) {
    const value = labelOf(labels, telling);
    const key = `${plain}{${telling}="${value?.toLowerCase()}"}`;
    if (value !== undefined && wanted.has(key)) return key;
  }
  return undefined;
}

/** The driver's UUID, so that all sources of a node agree; else the exporter's, where only one GPU claims it. */
function identitiesOf(gpus: ReadonlyMap<string, Gpu>, boards: Boards): ReadonlyMap<string, GpuIdentity> {
  const idsOf = new Map<string, Set<string>>();
  for (const { labels } of gpus.values()) {
    const claim = claimOf(labels);
    idsOf.set(claim, (idsOf.get(claim) ?? new Set()).add(labelOf(labels, 'gpu_id')!));
  }
  return new Map(
    [...gpus].map(([key, { labels }]) => {
      const claim = claimOf(labels);
      const ids = [...idsOf.get(claim)!].sort((one, other) => Number(one) - Number(other));
      const known = boards.get(labelOf(labels, 'serial_number') ?? '') ?? [];
      const fromDriver =
        known.length === ids.length ? known[ids.indexOf(labelOf(labels, 'gpu_id')!)] : undefined;
      const own = fromDriver ?? (ids.length === 1 ? claim : '');
      const model = fact(labelOf(labels, 'card_series')) ?? fact(labelOf(labels, 'card_model')) ?? 'AMD GPU';
      const partition = isPartitioned(labels)
        ? {
            mig_id: labelOf(labels, 'gpu_partition_id'),
            mig_profile: labelOf(labels, 'gpu_compute_partition_type'),
          }
        : {};
      return [key, { gpu: labelOf(labels, 'gpu_id')!, uuid: own, model, ...partition }];
    }),
  );
}

/** Partitions of one GPU share it. */
function claimOf(labels: Labels): string {
  return uuidOf(labelOf(labels, 'gpu_uuid') ?? labelOf(labels, 'serial_number'));
}

function listedGpu(identity: GpuIdentity, { labels, lines }: Gpu, values: () => Float64Array): ListedGpu {
  const text = (name: string): string | undefined => fact(labelOf(labels, name));
  return {
    identity,
    facts: {
      vendor: 'amd',
      serial: text('serial_number'),
      hostname: text('hostname'),
      product_number: text('card_model'),
      vbios_version: text('vbios_version') ?? text('card_vbios_version'),
      driver_version: text('driver_version'),
      compute_partition: text('gpu_compute_partition_type'),
      memory_partition: text('gpu_memory_partition_type'),
    },
    find: ({ key, unit }: AmdKey, base: string) => {
      const line = lines.get(key);
      if (line === undefined) return undefined;
      const value = values()[line]!;
      return unit === CYCLES ? value : toBase(value, unit, base);
    },
  };
}

function asGiven(
  { name, labels, decimals }: SampleHead,
  family: { type: string; help: string; unit: string } | undefined,
): Series {
  const own = labels.map(([label, value]) => [
    /^(node|cluster)$/.test(label) ? `exported_${label}` : label,
    value,
  ]);
  return {
    name,
    labels: sortedLabels(Object.fromEntries(own)),
    kind: family?.type === 'counter' ? 'counter' : 'gauge',
    decimals,
    help: family?.help ?? '',
    unit: family?.unit ?? '',
  };
}
