import type { Block, Source } from '#shared/model/block.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { COMBINES, combined, INPUT, inputsOf } from './gpu-inputs.ts';

/** Where each input of one GPU is in a dictionary. */
export interface GpuProgram {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** By input: its slots. Most have one. In the order of the inputs. */
  readonly reads: readonly InputRead[];
  /** A slot of temperature or power: whether the GPU answers. -1 without. */
  readonly vitalSlot: number;
}

export interface InputRead {
  readonly input: number;
  readonly slots: readonly number[];
  /** The slot where the input is one series, else -1. */
  readonly slot: number;
}

interface Draft {
  gpu: string;
  uuid: string;
  model: string;
  slots: Map<number, number[]>;
}

const VITAL: readonly number[] = [INPUT.core, INPUT.hotspot, INPUT.power];

/** One program for each GPU of the dictionary. A GPU without a UUID is named by its place. */
export function compilePrograms(source: Source, dictionary: Dictionary): GpuProgram[] {
  const drafts = new Map<string, Draft>();
  for (const [slot, { name, labels }] of dictionary.series.entries()) {
    const inputs = inputsOf(name, labels);
    if (inputs.length === 0) continue;
    const gpu = labelOf(labels, 'gpu') ?? '';
    const uuid = labelOf(labels, 'uuid') ?? (gpu === '' ? '' : `${source.cluster}/${source.node}/${gpu}`);
    if (uuid === '') continue;
    const model = labelOf(labels, 'model') ?? '';
    let draft = drafts.get(uuid);
    if (draft === undefined) {
      draft = { gpu, uuid, model, slots: new Map() };
      drafts.set(uuid, draft);
    }
    if (draft.gpu === '') draft.gpu = gpu;
    if (draft.model === '') draft.model = model;
    for (const input of inputs) {
      const slots = draft.slots.get(input) ?? [];
      // Of a series that exists twice the first counts, unless they are parts of one whole.
      if (slots.length === 0 || COMBINES[input] !== undefined) slots.push(slot);
      draft.slots.set(input, slots);
    }
  }
  return [...drafts.values()].map(({ slots, ...gpu }) => {
    const reads = [...slots]
      .map(([input, of]) => ({ input, slots: of, slot: COMBINES[input] === undefined ? of[0]! : -1 }))
      .sort((a, b) => a.input - b.input);
    const vital = reads.find(({ input }) => VITAL.includes(input));
    return { ...gpu, reads, vitalSlot: vital?.slots[0] ?? -1 };
  });
}

/** The value of an input in a tick, NaN where it is not there. */
export function readInput(read: InputRead, { states, values }: Block): number {
  const { slot } = read;
  if (slot >= 0) return states[slot] === SlotState.Present ? finite(values[slot]!) : Number.NaN;
  return combine(read.slots, COMBINES[read.input]!, states, values);
}

/** All of 64 bits. What is beyond is no reading: no mean or count would get over it. */
const LARGEST = 1e19;

function finite(value: number): number {
  return Math.abs(value) <= LARGEST ? value : Number.NaN;
}

function combine(
  slots: readonly number[],
  how: NonNullable<(typeof COMBINES)[number]>,
  states: Uint8Array,
  values: Float64Array,
): number {
  let value = 0;
  let present = 0;
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    if (states[slot] !== SlotState.Present) continue;
    value = combined(how, value, finite(values[slot]!));
    present++;
  }
  // A sum without one of its counters would seem to fall, and to rise when that one is back.
  return present === 0 || (how === 'sum' && present < slots.length) ? Number.NaN : value;
}
