import type { Block, Source } from '#shared/model/block.ts';
import { type Dictionary, type Labels, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { READING } from './peer-row.ts';

/** What tells jobs apart, in the order in which it is looked for. Never `job`: Prometheus calls its scrapes so. */
const JOB_LABELS = ['job_id', 'slurm_job_id', 'pod'] as const;

interface ReadingSeries {
  readonly reading: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly factor?: number;
  /** Added up over links. */
  readonly sum?: true;
}

/** Which reading a series is. The hotspot stands for the core where a board has no core sensor. */
const SERIES: ReadonlyMap<string, readonly ReadingSeries[]> = new Map(
  Object.entries<readonly ReadingSeries[]>({
    gpu_temperature_celsius: [
      { reading: READING.coreCelsius, labels: { sensor: 'hotspot' } },
      { reading: READING.coreCelsius, labels: { sensor: 'core' } },
      { reading: READING.memoryCelsius, labels: { sensor: 'memory' } },
    ],
    gpu_power_watts: [{ reading: READING.watts }],
    gpu_power_limit_watts: [{ reading: READING.limitWatts, labels: { limit: 'enforced' } }],
    gpu_clock_hertz: [{ reading: READING.smMegahertz, labels: { domain: 'sm' }, factor: 1e-6 }],
    gpu_utilization_ratio: [{ reading: READING.utilisation, labels: { task: 'general' } }],
    gpu_clock_event_reasons: [{ reading: READING.clockReasons }],
    gpu_tensor_active_ratio: [{ reading: READING.tensorActive }],
    gpu_io_bytes_per_second: [
      { reading: READING.linkBytesPerSecond, labels: { bus: 'nvlink', direction: 'transmit' } },
    ],
    gpu_link_state: [{ reading: READING.linksUp, sum: true }],
    gpu_link_crc_flit_errors_total: [{ reading: READING.linkErrors, sum: true }],
    gpu_link_crc_data_errors_total: [{ reading: READING.linkErrors, sum: true }],
    gpu_link_replay_errors_total: [{ reading: READING.linkErrors, sum: true }],
    gpu_link_recovery_errors_total: [{ reading: READING.linkErrors, sum: true }],
    gpu_pcie_link_width: [{ reading: READING.pcieLanes }],
    gpu_ecc_errors_total: [
      { reading: READING.correctedErrors, labels: { type: 'corrected', scope: 'volatile' } },
    ],
    gpu_memory_utilization_ratio: [{ reading: READING.memoryUsed }],
  }),
);

/** What one dictionary tells of one GPU. */
export interface PeerReads {
  readonly uuid: string;
  readonly gpu: string;
  readonly model: string;
  /** Of each reading that is one series. */
  readonly slots: number[];
  readonly readings: number[];
  readonly factors: number[];
  /** Readings that are the sum of many series. */
  readonly sums: LinkSum[];
  /** Slots of gpu_job_info, and the job that each names. */
  readonly jobSlots: number[];
  readonly jobs: string[];
}

interface LinkSum {
  readonly reading: number;
  readonly slots: number[];
}

/** By GPU. A GPU without a UUID is named by its place; a slice is no GPU. */
export function compilePeerReads(source: Source, { series }: Dictionary): PeerReads[] {
  const gpus = new Map<string, PeerReads>();
  for (const [slot, { name, labels }] of series.entries()) {
    const isJob = name === 'gpu_job_info';
    const found = isJob ? undefined : readingOf(name, labels);
    if ((found === undefined && !isJob) || labelOf(labels, 'mig_id') !== undefined) continue;
    const reads = readsOf(gpus, source, labels);
    if (reads === undefined) continue;
    if (found !== undefined) addSeries(reads, found, slot, labels);
    else {
      reads.jobSlots.push(slot);
      reads.jobs.push(jobOf(labels));
    }
  }
  return [...gpus.values()];
}

/**
 * Copies what a tick tells into a GPU's readings, each with the time until when it counts. What the tick does not
 * have is left as it was.
 */
export function takePeerReads(
  { slots, readings, factors, sums }: PeerReads,
  { values, states }: Block,
  into: Float64Array,
  until: Float64Array,
  untilMs: number,
): void {
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    if (states[slot] !== SlotState.Present) continue;
    into[readings[i]!] = values[slot]! * factors[i]!;
    until[readings[i]!] = untilMs;
  }
  for (let i = 0; i < sums.length; i++) {
    const { reading, slots: links } = sums[i]!;
    const sum = sumOf(links, reading === READING.linksUp, values, states);
    if (Number.isNaN(sum)) continue;
    into[reading] = sum;
    until[reading] = untilMs;
  }
}

/** The job that a tick names; undefined where its dictionary says nothing of jobs, empty where there is none. */
export function jobOfTick({ jobSlots, jobs }: PeerReads, { states }: Block): string | undefined {
  if (jobSlots.length === 0) return undefined;
  for (let i = 0; i < jobSlots.length; i++) if (states[jobSlots[i]!] === SlotState.Present) return jobs[i]!;
  return '';
}

/**
 * NaN where a link is not there in this tick: a sum without it would seem to fall, and to rise when it is back. Links
 * that the device does not have, or that nobody may read, are no part of it.
 */
function sumOf(links: readonly number[], ups: boolean, values: Float64Array, states: Uint8Array): number {
  let sum = 0;
  let present = 0;
  for (let i = 0; i < links.length; i++) {
    const slot = links[i]!;
    const state = states[slot]!;
    if (state === SlotState.NotSupported || state === SlotState.NoPermission) continue;
    if (state !== SlotState.Present) return Number.NaN;
    // Of links those count that are up (1): 0 is down, 2 is disabled.
    sum += ups ? Number(values[slot] === 1) : values[slot]!;
    present++;
  }
  return present === 0 ? Number.NaN : sum;
}

function readsOf(gpus: Map<string, PeerReads>, source: Source, labels: Labels): PeerReads | undefined {
  const gpu = labelOf(labels, 'gpu') ?? '';
  const uuid = labelOf(labels, 'uuid') ?? (gpu === '' ? '' : `${source.cluster}/${source.node}/${gpu}`);
  if (uuid === '') return undefined;
  let reads = gpus.get(uuid);
  if (reads === undefined) {
    const model = labelOf(labels, 'model') ?? '';
    reads = { uuid, gpu, model, slots: [], readings: [], factors: [], sums: [], jobSlots: [], jobs: [] };
    gpus.set(uuid, reads);
  }
  return reads;
}

function addSeries(
  reads: PeerReads,
  { reading, factor = 1, sum }: ReadingSeries,
  slot: number,
  labels: Labels,
): void {
  if (sum) {
    const known = reads.sums.find((one) => one.reading === reading);
    if (known === undefined) reads.sums.push({ reading, slots: [slot] });
    else known.slots.push(slot);
    return;
  }
  const known = reads.readings.indexOf(reading);
  if (known >= 0 && labelOf(labels, 'sensor') === 'hotspot') return;
  const at = known >= 0 ? known : reads.slots.length;
  reads.slots[at] = slot;
  reads.readings[at] = reading;
  reads.factors[at] = factor;
}

function readingOf(name: string, labels: Labels): ReadingSeries | undefined {
  return SERIES.get(name)?.find(({ labels: wanted = {} }) =>
    Object.entries(wanted).every(([label, value]) => labelOf(labels, label) === value),
  );
}

function jobOf(labels: Labels): string {
  for (const name of JOB_LABELS) {
    const value = labelOf(labels, name);
    if (value !== undefined && value !== '') return value;
  }
  return '';
}
