import type { Block } from '../../shared/model/block.ts';
import { type Dictionary, type Labels, labelOf } from '../../shared/model/dictionary.ts';
import { SlotState } from '../../shared/model/slot-state.ts';
import { createDictionary } from '../../shared/wire/dictionary.ts';
import { START_MS } from './alerts/block-of.ts';

type Show = (block: Block) => Block;

export interface Policy {
  readonly gpu: number;
  /** Bit of gpu_clock_event_reasons: 0x4 power cap, 0x2 application clocks. */
  readonly reason: number;
  /** It draws no more than this. */
  readonly watts: number;
  readonly clockShare: number;
  /** Of the run. */
  readonly afterMinutes: number;
}

/** One GPU as somebody set it: slower and cooler at less power, and the driver tells why. */
export function policyLimited({ gpu, reason, watts, clockShare, afterMinutes }: Policy): Show {
  let savedJoules = 0;
  let lastMs = 0;
  return (block) => {
    const seconds = lastMs === 0 ? 0 : (block.timestampMs - lastMs) / 1000;
    lastMs = block.timestampMs;
    if (isBefore(block, afterMinutes)) return block;
    const values = block.values.slice();
    const at = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
      block.dictionary.series.findIndex(
        (one) =>
          one.name === name &&
          Object.entries({ gpu: String(gpu), ...labels }).every(
            ([key, value]) => labelOf(one.labels, key) === value,
          ),
      );
    const clock = at('gpu_clock_hertz', { domain: 'sm' });
    const drawn = values[at('gpu_power_watts')]!;
    // A regulator swings a little around its limit.
    const less = drawn - Math.min(watts - (drawn % 1), drawn * clockShare);
    savedJoules += less * seconds;
    values[at('gpu_power_watts')]! -= less;
    values[at('gpu_power_instant_watts')]! -= less;
    values[at('gpu_energy_joules_total')]! -= savedJoules;
    if (reason === 0x4) values[at('gpu_power_limit_watts', { limit: 'enforced' })] = watts;
    values[at('gpu_clock_event_reasons')] = reason;
    values[clock]! *= clockShare;
    values[at('gpu_temperature_celsius', { sensor: 'core' })]! -= Math.round(0.06 * less);
    values[at('gpu_temperature_celsius', { sensor: 'memory' })]! -= Math.round(0.05 * less);
    return { ...block, values };
  };
}

/** From a moment on, a GPU has two MIG instances with series of their own, which are far from the board's. */
export function withInstances(gpu: number, afterMinutes: number): Show {
  const partitioned = new WeakMap<Dictionary, Dictionary>();
  return (block) => {
    if (isBefore(block, afterMinutes)) return block;
    let dictionary = partitioned.get(block.dictionary);
    if (dictionary === undefined) {
      dictionary = partition(block.dictionary, gpu);
      partitioned.set(block.dictionary, dictionary);
    }
    const values = new Float64Array(dictionary.series.length).fill(149);
    values.set(block.values);
    const states = new Uint8Array(dictionary.series.length).fill(SlotState.Present);
    states.set(block.states);
    return { ...block, dictionary, values, states };
  };
}

function partition({ group, intervalMs, series }: Dictionary, gpu: number): Dictionary {
  const parts = series
    .filter(({ name, labels }) => INSTANCED.has(name) && labelOf(labels, 'gpu') === String(gpu))
    .flatMap((one) => ['1', '2'].map((id) => ({ ...one, labels: withLabel(one.labels, 'mig_id', id) })));
  return createDictionary(group, intervalMs, [...series, ...parts]);
}

const INSTANCED: ReadonlySet<string> = new Set([
  'gpu_temperature_celsius',
  'gpu_power_watts',
  'gpu_ecc_errors_total',
  'gpu_memory_used_bytes',
]);

function withLabel(labels: Labels, name: string, value: string): Labels {
  return [...labels, [name, value] as const].sort(([a], [b]) => (a < b ? -1 : 1));
}

function isBefore({ timestampMs }: Block, minutes: number): boolean {
  return timestampMs < START_MS + minutes * 60_000;
}
