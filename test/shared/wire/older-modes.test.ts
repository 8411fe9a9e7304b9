import { expect, test } from 'vitest';
import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { withOlderModes } from '#shared/wire/older-modes.ts';

const STATES = [...SLOT_STATE_NAMES.keys()];
const dictionary = createDictionary(
  'test',
  1000,
  Array.from({ length: 300 }, (_, i) => ({
    name: `m${i}`,
    labels: [],
    kind: i % 3 === 0 ? ('counter' as const) : ('gauge' as const),
    decimals: 2,
    help: '',
    unit: '',
  })),
);

// Lost without it: an aggregator of the version before breaks the stream of every agent that was updated first.
test('a reader of protocol 1 gets the same values, and Absent for each reason that it does not know', () => {
  const encoder = new FrameEncoder(dictionary);
  const decoder = new FrameDecoder(dictionary);
  const values = new Float64Array(300);
  const states = new Uint8Array(300);
  for (let tick = 0; tick < 40; tick++) {
    for (let slot = 0; slot < 300; slot++) {
      states[slot] = (slot + tick) % 4 === 0 ? STATES[(slot * 7 + tick) % STATES.length]! : SlotState.Present;
      values[slot] = slot % 11 === 0 ? Math.sqrt(slot + tick) : (slot * tick) / 4;
    }
    const frame = encoder.encode({ timestampMs: 1e12 + tick * 1000, values, states });
    const before = Uint8Array.from(frame);
    decoder.decode(withOlderModes(frame));
    expect(frame).toEqual(before);
    for (let slot = 0; slot < 300; slot++) {
      const expected = states[slot]! > 4 ? SlotState.Absent : states[slot];
      expect(decoder.states[slot]).toBe(expected);
      if (expected === SlotState.Present) expect(decoder.values[slot]).toBe(values[slot]);
    }
  }
});

test('a frame without a newer reason is sent as it is', () => {
  const encoder = new FrameEncoder(dictionary);
  const states = new Uint8Array(300).fill(SlotState.Absent);
  const frame = encoder.encode({ timestampMs: 1, values: new Float64Array(300), states });
  expect(withOlderModes(frame)).toBe(frame);
});
