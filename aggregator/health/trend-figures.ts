import type { Source } from '#shared/model/block.ts';
import type { GpuRecord } from './gpu-record.ts';
import type { SignalName } from './profiles/names.ts';
import { SIGNALS } from './signals.ts';

/** What of a GPU is followed over months, in the order of `TrendFigures.values`. */
export const TREND_FIGURES = [
  'core_margin',
  'memory_margin',
  'thermal_resistance',
  'remapped_rows',
  'pcie_replays_per_minute',
  'clock_of_siblings',
] as const;

/** Of one GPU at one moment. Filled anew for the next: read it at once. */
export interface TrendFigures {
  readonly source: Source;
  readonly uuid: string;
  /** By TREND_FIGURES; NaN where it is not known, or means nothing without work. */
  readonly values: Float64Array;
  /** Sample time of the newest rise of its uncorrected errors, Unix ms; NaN where none was seen. */
  readonly uncorrectedMs: number;
}

interface Figure {
  /** The score's signal that it is read as. */
  readonly signal: SignalName;
  /** A trend in its load is no trend in its health. */
  readonly busy: boolean;
  readonly plus: number;
}

const FIGURES: Readonly<Record<(typeof TREND_FIGURES)[number], Figure>> = {
  core_margin: { signal: 'core_margin', busy: true, plus: 0 },
  memory_margin: { signal: 'memory_margin', busy: true, plus: 0 },
  // The score's is the excess over the baseline: 0.1 where this is 1.1.
  thermal_resistance: { signal: 'thermal_resistance', busy: false, plus: 1 },
  remapped_rows: { signal: 'row_remaps', busy: false, plus: 0 },
  pcie_replays_per_minute: { signal: 'pcie_replays', busy: false, plus: 0 },
  clock_of_siblings: { signal: 'sibling_clock', busy: true, plus: 0 },
};
const IN_ORDER = TREND_FIGURES.map((name) => FIGURES[name]);

/** Fills `values`. `at` by the monotonic clock, `nowMs` by the wall clock. Allocates nothing. */
export function readTrendFigures(gpu: GpuRecord, at: number, nowMs: number, values: Float64Array): void {
  const isBusy = gpu.load === 'busy';
  for (let i = 0; i < IN_ORDER.length; i++) {
    const { signal, busy, plus } = IN_ORDER[i]!;
    values[i] = busy && !isBusy ? Number.NaN : SIGNALS[signal].read(gpu, at, nowMs) + plus;
  }
}
