import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import { SLOT_STATE_NAMES, SLOT_STATES, SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { Fuzz, shortStacks } from '../../support/fuzz.ts';
import { expectFleetError } from './expect-fleet-error.ts';

const ALL_STATES = [...SLOT_STATE_NAMES.keys()];

/** Around the edges of the bitmap's bytes, none at all, and a real node's. */
const SIZES = [0, 1, 7, 8, 9, 33, 400];
const FRAMES_EACH = 12;
/** After this many inputs a decoder must still read what is valid. */
const PROVE_EVERY = 50;

interface Subject {
  readonly dictionary: Dictionary;
  /** Frames of one stream, the first a keyframe, and what they hold. */
  readonly frames: readonly Uint8Array[];
  readonly first: Float64Array;
  readonly decoder: FrameDecoder;
}

/** Feeds mutated frames and noise to decoders that live on; returns how many were read and how many refused. */
export function fuzzFrames(seed: number, inputs: number): { read: number; refused: number } {
  using _ = shortStacks();
  const fuzz = new Fuzz(seed);
  const subjects = SIZES.map((slots) => subjectOf(fuzz, slots));
  let read = 0;
  for (let input = 0; input < inputs; input++) {
    const subject = fuzz.pick(subjects);
    // A difference is only read behind its keyframe: without it nearly every input would end at the first byte.
    if (fuzz.chance(0.7)) subject.decoder.decode(subject.frames[0]!);
    const bytes = fuzz.chance(0.1) ? fuzz.noise(80) : fuzz.mutate(subject.frames);
    if (tryDecode(subject.decoder, bytes)) read++;
    else if (tryDecode(subject.decoder, subject.frames[1]!))
      throw new Error('a difference was read behind a frame that was refused');
    if (input % PROVE_EVERY === 0) prove(subject);
  }
  return { read, refused: inputs - read };
}

function tryDecode(decoder: FrameDecoder, bytes: Uint8Array): boolean {
  try {
    const time = decoder.decode(bytes);
    if (!Number.isSafeInteger(time) || time < 0) throw new Error(`time ${time}`);
  } catch (error) {
    expectFleetError(error, 'invalid_input');
    return false;
  }
  for (let slot = 0; slot < decoder.states.length; slot++) {
    if (decoder.states[slot]! >= SLOT_STATES) throw new Error(`state ${decoder.states[slot]}`);
    if (Number.isNaN(decoder.values[slot])) throw new Error(`slot ${slot} is not a number`);
  }
  return true;
}

/** Whatever came before: after a keyframe the decoder is right again, to the bit. */
function prove({ decoder, frames, first }: Subject): void {
  decoder.decode(frames[0]!);
  for (let slot = 0; slot < first.length; slot++) {
    if (decoder.states[slot] === SlotState.Present && !Object.is(decoder.values[slot], first[slot]))
      throw new Error(`slot ${slot} is ${decoder.values[slot]} after a keyframe that says ${first[slot]}`);
  }
}

function subjectOf(fuzz: Fuzz, slots: number): Subject {
  const dictionary = createDictionary(
    'fuzz',
    1000,
    Array.from({ length: slots }, (_, i) => ({
      name: `m_${i}`,
      labels: [],
      kind: (i % 3 ? 'gauge' : 'counter') as Kind,
      decimals: (i % 7) - 2,
      help: '',
      unit: '',
    })),
  );
  const encoder = new FrameEncoder(dictionary);
  const states = new Uint8Array(slots);
  const values = new Float64Array(slots);
  let first = values.slice();
  const frames: Uint8Array[] = [];
  for (let tick = 0; tick < FRAMES_EACH; tick++) {
    for (let slot = 0; slot < slots; slot++) {
      if (fuzz.chance(0.1)) states[slot] = ALL_STATES[fuzz.below(ALL_STATES.length)]!;
      values[slot] = next(fuzz, values[slot]!);
    }
    if (tick === 0) first = values.slice();
    const timestampMs = 1_780_000_000_000 + tick * 1000 + fuzz.below(3);
    frames.push(encoder.encode({ timestampMs, values, states }, tick % 10 === 0).slice());
  }
  return { dictionary, frames, first, decoder: new FrameDecoder(dictionary) };
}

function next(fuzz: Fuzz, before: number): number {
  const dice = fuzz.random();
  if (dice < 0.5) return before;
  if (dice < 0.8) return before + fuzz.below(1000);
  if (dice < 0.95) return fuzz.below(1e6) / 1000;
  return fuzz.pick([Number.POSITIVE_INFINITY, -0, Number.MAX_SAFE_INTEGER, -1e300, 5e-324, 1 / 3]);
}
