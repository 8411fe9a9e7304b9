import type { DetectorName } from './anomaly.ts';
import { CHANNEL_COUNT, CONDITION_COUNT, SENSOR_COUNT } from './channels.ts';
import { FrozenDetector } from './frozen-detector.ts';
import { GaugeChannels } from './gauge-channels.ts';
import { FRAME_WIDTH } from './gpu-frame.ts';
import type { NodeGpu } from './node-detection.ts';
import type { ProgramCounter, ProgramLink } from './node-program.ts';
import { RateDetector } from './rate-detector.ts';
import { ResidualDetector } from './residual-detector.ts';
import { SlopeDetector } from './slope-detector.ts';
import { StateWatch } from './state-watch.ts';

/**
 * What the detectors of a node know, in arrays: rows of GPUs, channels, sensors, counters and links. A row stays where
 * it is for good; a dictionary that changes (MIG, a driver) finds its rows again by UUID and signal.
 */
export class NodeRows {
  readonly gpus: NodeGpu[] = [];
  readonly #gpuRows = new Map<string, number>();
  /** By signal, then by the GPU's row: signals are few and the same on each GPU. */
  readonly #counterRows = new Map<string, number[]>();
  readonly #linkRows = new Map<string, number[]>();
  frame = new Float64Array(0);
  frameMs = new Float64Array(0);
  /** What each channel should be now; NaN where nothing is known. */
  expected = new Float32Array(0);
  /** What is left of each channel now, NaN where nothing can be said; and what that may be off by. */
  left = new Float64Array(0);
  tolerances = new Float32Array(0);
  /** Most PCIe lanes seen of each GPU. */
  widths = new Float32Array(0);
  gauges = new GaugeChannels(0);
  residuals = new ResidualDetector(0);
  slopes = new SlopeDetector(0);
  frozen = new FrozenDetector(0);
  states = new StateWatch(0);
  counters = new RateDetector(0);
  counterGpus: number[] = [];
  counterSignals: string[] = [];
  counterMetrics: string[] = [];
  links = new StateWatch(0);
  linkGpus: number[] = [];
  linkSignals: string[] = [];

  /** Series that are watched. */
  get size(): number {
    return (
      this.gpus.length * (CHANNEL_COUNT + CONDITION_COUNT) + this.counterGpus.length + this.linkGpus.length
    );
  }

  counts(): [DetectorName, number][] {
    return [
      ['level', this.gpus.length * (CHANNEL_COUNT + CONDITION_COUNT) + this.linkGpus.length],
      ['frozen', this.gpus.length * SENSOR_COUNT],
      ['rate', this.counterGpus.length],
    ];
  }

  gpuRow(uuid: string): number | undefined {
    return this.#gpuRows.get(uuid);
  }

  counterRow(uuid: string, signal: string): number | undefined {
    return this.#rowIn(this.#counterRows, uuid, signal);
  }

  linkRow(uuid: string, signal: string): number | undefined {
    return this.#rowIn(this.#linkRows, uuid, signal);
  }

  #rowIn(rows: ReadonlyMap<string, readonly number[]>, uuid: string, signal: string): number | undefined {
    const gpu = this.#gpuRows.get(uuid);
    return gpu === undefined ? undefined : rows.get(signal)?.[gpu];
  }

  addGpus(added: readonly NodeGpu[]): void {
    if (added.length === 0) return;
    const before = this.gpus.length;
    for (const gpu of added) {
      this.#gpuRows.set(gpu.uuid, this.gpus.length);
      this.gpus.push(gpu);
    }
    const after = this.gpus.length;
    this.frame = longer(this.frame, after * FRAME_WIDTH, Number.NaN);
    this.frameMs = longer(this.frameMs, after * FRAME_WIDTH, 0);
    this.expected = new Float32Array(after * CHANNEL_COUNT).fill(Number.NaN);
    this.left = new Float64Array(after * CHANNEL_COUNT).fill(Number.NaN);
    this.tolerances = new Float32Array(after * CHANNEL_COUNT);
    const widths = new Float32Array(after);
    widths.set(this.widths);
    this.widths = widths;
    this.gauges = taken(new GaugeChannels(after), this.gauges, before);
    this.residuals = taken(
      new ResidualDetector(after * CHANNEL_COUNT),
      this.residuals,
      before * CHANNEL_COUNT,
    );
    this.slopes = taken(new SlopeDetector(after * CHANNEL_COUNT), this.slopes, before * CHANNEL_COUNT);
    this.frozen = taken(new FrozenDetector(after * SENSOR_COUNT), this.frozen, before * SENSOR_COUNT);
    this.states = taken(new StateWatch(after * CONDITION_COUNT), this.states, before * CONDITION_COUNT);
  }

  addCounters(added: readonly ProgramCounter[]): void {
    if (added.length === 0) return;
    const before = this.counterGpus.length;
    this.counters = taken(new RateDetector(before + added.length), this.counters, before);
    for (const { uuid, signal, metric, watch } of added) {
      const row = this.counterGpus.length;
      const gpu = this.#gpuRows.get(uuid)!;
      enter(this.#counterRows, signal, gpu, row);
      this.counterGpus.push(gpu);
      this.counterSignals.push(signal);
      this.counterMetrics.push(metric);
      this.counters.begin(row, watch);
    }
  }

  addLinks(added: readonly ProgramLink[]): void {
    if (added.length === 0) return;
    const before = this.linkGpus.length;
    this.links = taken(new StateWatch(before + added.length), this.links, before);
    for (const { uuid, signal } of added) {
      const gpu = this.#gpuRows.get(uuid)!;
      enter(this.#linkRows, signal, gpu, this.linkGpus.length);
      this.linkGpus.push(gpu);
      this.linkSignals.push(signal);
    }
  }

  rearm(row: number): void {
    this.gauges.rearm(row);
    for (let i = 0; i < CHANNEL_COUNT; i++) {
      this.residuals.rearm(row * CHANNEL_COUNT + i);
      this.slopes.rearm(row * CHANNEL_COUNT + i);
    }
    for (let i = 0; i < SENSOR_COUNT; i++) this.frozen.rearm(row * SENSOR_COUNT + i);
  }

  rearmLoad(row: number): void {
    for (let i = 0; i < CHANNEL_COUNT; i++) this.residuals.rearm(row * CHANNEL_COUNT + i);
  }

  rearmCounters(gpu: number): void {
    for (let row = 0; row < this.counterGpus.length; row++)
      if (this.counterGpus[row] === gpu) this.counters.rearm(row);
  }
}

function enter(rows: Map<string, number[]>, signal: string, gpu: number, row: number): void {
  const known = rows.get(signal) ?? [];
  known[gpu] = row;
  rows.set(signal, known);
}

/** All rows of `from` into a larger one. */
function taken<T extends { take(row: number, from: T, other: number): void }>(
  to: T,
  from: T,
  rows: number,
): T {
  for (let row = 0; row < rows; row++) to.take(row, from, row);
  return to;
}

function longer(array: Float64Array, length: number, fill: number): Float64Array<ArrayBuffer> {
  const grown = new Float64Array(length).fill(fill);
  grown.set(array);
  return grown;
}
