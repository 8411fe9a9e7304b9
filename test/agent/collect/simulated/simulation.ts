import type { Reading } from '../../../../agent/collect/collector.ts';
import {
  createSimulatedCollector,
  type SimulatedCollector,
  type SimulatedOptions,
} from '../../../../agent/collect/simulated/collector.ts';
import { labelOf } from '../../../../shared/model/dictionary.ts';

const START_MS = Date.UTC(2026, 0, 1);

/** A simulated node and the clock that drives it. */
export class Simulation {
  readonly collector: SimulatedCollector;
  /** Unix ms of the next read. */
  now = START_MS;
  last!: Reading;
  readonly #slots = new Map<string, number>();
  readonly #signal = new AbortController().signal;

  constructor(options: Partial<SimulatedOptions> = {}) {
    this.collector = createSimulatedCollector({
      node: 'node-a',
      intervalMs: 1000,
      clock: { now: () => this.now, monotonic: () => this.now },
      ...options,
    });
  }

  /** Reads after so many seconds: 0 for the first read. */
  async read(afterSeconds: number, signal: AbortSignal = this.#signal): Promise<Reading> {
    this.now += Math.round(afterSeconds * 1000);
    this.last = await this.collector.collect(signal);
    return this.last;
  }

  /** One read a second. */
  async run(seconds: number, each: () => void = () => undefined): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      await this.read(1);
      each();
    }
  }

  slot(gpu: number, name: string, label?: readonly [string, string]): number {
    const key = `${gpu} ${name} ${label}`;
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    const slot = this.last.dictionary.series.findIndex(
      (one) =>
        one.name === name &&
        labelOf(one.labels, 'gpu') === String(gpu) &&
        (label === undefined || labelOf(one.labels, label[0]) === label[1]),
    );
    if (slot < 0) throw new Error(`no series ${key}`);
    this.#slots.set(key, slot);
    return slot;
  }

  value(gpu: number, name: string, label?: readonly [string, string]): number {
    return this.last.values[this.slot(gpu, name, label)]!;
  }

  /** Share of full speed of a fan of the chassis. */
  fan(fan: number): number {
    const slot = this.last.dictionary.series.findIndex(
      ({ labels }) => labelOf(labels, 'fan') === String(fan),
    );
    return this.last.values[slot]!;
  }

  /** The states of all slots of one GPU, gpu_up aside. */
  states(gpu: number): Set<number> {
    const states = new Set<number>();
    this.last.dictionary.series.forEach((one, slot) => {
      if (labelOf(one.labels, 'gpu') === String(gpu) && one.name !== 'gpu_up') {
        states.add(this.last.states[slot]!);
      }
    });
    return states;
  }
}

export const CORE = ['sensor', 'core'] as const;
export const MEMORY = ['sensor', 'memory'] as const;
export const SM = ['domain', 'sm'] as const;

/** Pearson's correlation of two series of the same length. */
export function correlation(a: readonly number[], b: readonly number[]): number {
  const mean = (all: readonly number[]) => all.reduce((sum, x) => sum + x, 0) / all.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [both, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    both += (a[i]! - meanA) * (b[i]! - meanB);
    squaresA += (a[i]! - meanA) ** 2;
    squaresB += (b[i]! - meanB) ** 2;
  }
  return both / Math.sqrt(squaresA * squaresB);
}
