import { describe, expect, test } from 'vitest';
import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { seededRandom } from '../../support/random.ts';

function dictionaryOf(slots: { kind?: Kind; decimals?: number }[]): Dictionary {
  return createDictionary(
    'test',
    1000,
    slots.map(({ kind = 'gauge', decimals = 0 }, i) => ({
      name: `m_${i}`,
      labels: [['gpu', String(i)]],
      kind,
      decimals,
      help: '',
      unit: '',
    })),
  );
}

function tickOf(timestampMs: number, values: number[], states?: number[]) {
  return {
    timestampMs,
    values: Float64Array.from(values),
    states: Uint8Array.from(states ?? values.map(() => SlotState.Present)),
  };
}

function roundTrip(dictionary: Dictionary, ticks: ReturnType<typeof tickOf>[]): Uint8Array[] {
  const encoder = new FrameEncoder(dictionary);
  const decoder = new FrameDecoder(dictionary);
  return ticks.map((tick, index) => {
    const frame = encoder.encode(tick).slice();
    expect(decoder.decode(frame)).toBe(tick.timestampMs);
    expectTick(decoder, tick, index);
    return frame;
  });
}

function expectTick(decoder: FrameDecoder, tick: ReturnType<typeof tickOf>, index: number): void {
  for (let slot = 0; slot < tick.values.length; slot++) {
    expect(decoder.states[slot], `state of slot ${slot} in tick ${index}`).toBe(tick.states[slot]);
    if (tick.states[slot] !== SlotState.Present) continue;
    const same = Object.is(decoder.values[slot], tick.values[slot]);
    if (!same) expect.fail(`tick ${index} slot ${slot}: ${decoder.values[slot]} is not ${tick.values[slot]}`);
  }
}

describe('a frame gives back, bit for bit, what was recorded', () => {
  test('scaled gauges, counters, negative decimals', () => {
    const dictionary = dictionaryOf([
      { decimals: 3 },
      { kind: 'counter', decimals: 3 },
      { decimals: -6 },
      { decimals: 6 },
    ]);
    roundTrip(dictionary, [
      tickOf(1_700_000_000_000, [67.433, 128996.013, 1_980_000_000, 0.123456]),
      tickOf(1_700_000_001_000, [67.5, 129063.446, 1_980_000_000, 0.123457]),
      tickOf(1_700_000_002_001, [0, 129130.879, 345_000_000, 0]),
      tickOf(1_700_000_002_000, [-12.5, 5, 345_000_000, 1]),
    ]);
  });

  test('values that no scale holds: infinities, minus zero, long fractions, beyond 2^53', () => {
    const dictionary = dictionaryOf([{}, { kind: 'counter' }, { decimals: 2 }]);
    roundTrip(dictionary, [
      tickOf(1, [Infinity, 2 ** 60, 1 / 3]),
      tickOf(2, [-0, 2 ** 60 + 4096, 1 / 3]),
      tickOf(3, [0, 2 ** 53 - 1, 0.33]),
      tickOf(4, [-Infinity, 2 ** 53 - 2, 0.34]),
      tickOf(5, [5e-324, 7, Number.MAX_VALUE]),
      tickOf(6, [5, 8, 0.34]),
    ]);
  });

  test('absent, quarantined, stale and timed out stay apart, and coming back is seen', () => {
    const { Present, Absent, Quarantined, Stale, Timeout } = SlotState;
    const dictionary = dictionaryOf([{ kind: 'counter' }, {}, {}]);
    roundTrip(dictionary, [
      tickOf(1, [10, 1, 2], [Present, Absent, Present]),
      tickOf(2, [20, 1, 2], [Present, Absent, Timeout]),
      tickOf(3, [0, 1, 2], [Absent, Quarantined, Timeout]),
      tickOf(4, [35, 1, 2], [Present, Present, Stale]),
      tickOf(5, [45, 1, 2], [Present, Present, Present]),
    ]);
  });

  test('random walks over all states, scales and shapes', () => {
    const random = seededRandom(7);
    for (let round = 0; round < 300; round++) {
      const shape = Array.from({ length: 1 + Math.floor(random() * 40) }, () => ({
        kind: (random() < 0.4 ? 'counter' : 'gauge') as Kind,
        decimals: Math.floor(random() * 12) - 4,
      }));
      const values = shape.map(() => 0);
      const states = shape.map(() => 0);
      const ticks = Array.from({ length: 12 }, (_, t) => {
        shape.forEach(({ kind, decimals }, slot) => {
          const dice = random();
          if (dice < 0.1) states[slot] = Math.floor(random() * 5);
          else if (dice < 0.2) states[slot] = 0;
          const step = Math.round(random() * 1000) * 10 ** -decimals;
          if (kind === 'counter') values[slot] = values[slot]! + step;
          else if (dice < 0.9)
            values[slot] = Math.round((random() - 0.5) * 10 ** (1 + random() * 6)) / 10 ** decimals;
          else values[slot] = (random() - 0.5) * 10 ** (random() * 300);
        });
        return tickOf(1_700_000_000_000 + t * 1000 + Math.round(random() * 3), values, states);
      });
      roundTrip(dictionaryOf(shape), ticks);
    }
  });

  test('a keyframe in mid-stream can be decoded alone, and the stream goes on from it', () => {
    const dictionary = dictionaryOf([{ kind: 'counter' }, { decimals: 1 }]);
    const encoder = new FrameEncoder(dictionary);
    const live = new FrameDecoder(dictionary);
    live.decode(encoder.encode(tickOf(1000, [5, 0.5])));
    const key = encoder.encode(tickOf(2000, [6, 0.5]), true).slice();
    const alone = new FrameDecoder(dictionary);
    for (const decoder of [live, alone]) {
      expect(decoder.decode(key)).toBe(2000);
      expectTick(decoder, tickOf(2000, [6, 0.5]), 1);
    }
    const next = encoder.encode(tickOf(3000, [7, 0.6])).slice();
    for (const decoder of [live, alone]) {
      expect(decoder.decode(next)).toBe(3000);
      expectTick(decoder, tickOf(3000, [7, 0.6]), 2);
    }
  });
});

test('what does not change costs one bit, a steady counter too', () => {
  const shape = Array.from({ length: 400 }, (_, i) => ({ kind: (i % 2 ? 'counter' : 'gauge') as Kind }));
  const frames = roundTrip(
    dictionaryOf(shape),
    Array.from({ length: 5 }, (_, t) =>
      tickOf(
        1000 + t * 1000,
        shape.map((_, i) => (i % 2 ? 1_000_000 + t * 12_345 : 40)),
      ),
    ),
  );
  expect(frames.at(-1)!.length).toBeLessThanOrEqual(52);
});

describe('a mistake is refused and does not corrupt the stream', () => {
  test('a present value that is not a number', () => {
    const dictionary = dictionaryOf([{}, {}]);
    const encoder = new FrameEncoder(dictionary);
    const decoder = new FrameDecoder(dictionary);
    decoder.decode(encoder.encode(tickOf(1, [1, 2])));
    expect(() => encoder.encode(tickOf(2, [3, Number.NaN]))).toThrow(/m_1.*not a number/);
    decoder.decode(encoder.encode(tickOf(3, [4, 5])));
    expectTick(decoder, tickOf(3, [4, 5]), 2);
  });

  test('a tick of another shape, a time that is no time', () => {
    const encoder = new FrameEncoder(dictionaryOf([{}]));
    expect(() => encoder.encode(tickOf(1, [1, 2]))).toThrow(/does not fit/);
    expect(() => encoder.encode(tickOf(-1, [1]))).toThrow(/does not fit/);
    expect(() => encoder.encode(tickOf(1.5, [1]))).toThrow(/does not fit/);
  });
});

describe('bytes from anywhere are refused, never followed', () => {
  test('a difference without a keyframe, unknown flags, left-over bytes, nothing at all', () => {
    const dictionary = dictionaryOf([{}, {}]);
    const encoder = new FrameEncoder(dictionary);
    const key = encoder.encode(tickOf(1000, [1, 2])).slice();
    const difference = encoder.encode(tickOf(2000, [2, 2])).slice();
    const decode = (bytes: Uint8Array) => () => new FrameDecoder(dictionary).decode(bytes);
    expect(decode(difference)).toThrow(/no keyframe/);
    expect(decode(Uint8Array.of(0x80))).toThrow(/flags/);
    expect(decode(Uint8Array.from([...key, 0]))).toThrow(/left over/);
    expect(decode(new Uint8Array(0))).toThrow(/empty/);
    for (let length = 1; length < key.length; length++)
      expect(decode(key.subarray(0, length))).toThrow(/Cannot/);
  });

  test('behind a frame that was refused for whatever reason, a difference is too: its values would be wrong', () => {
    const dictionary = dictionaryOf([{}, {}]);
    const encoder = new FrameEncoder(dictionary);
    const frames = [1, 2, 3].map((value) => encoder.encode(tickOf(value * 1000, [value, value])).slice());
    const garbage = [new Uint8Array(0), Uint8Array.of(0x80), Uint8Array.of(0, 1), Uint8Array.of(1)];
    for (const lost of garbage) {
      const decoder = new FrameDecoder(dictionary);
      decoder.decode(frames[0]!);
      expect(() => decoder.decode(lost)).toThrow(/Cannot/);
      expect(() => decoder.decode(frames[2]!)).toThrow(/no keyframe/);
    }
  });

  test('random and flipped bytes either decode to finite work or throw one kind of error', () => {
    const random = seededRandom(11);
    const dictionary = dictionaryOf(
      Array.from({ length: 33 }, (_, i) => ({
        kind: (i % 3 ? 'gauge' : 'counter') as Kind,
        decimals: (i % 7) - 2,
      })),
    );
    const encoder = new FrameEncoder(dictionary);
    const seed = encoder
      .encode(
        tickOf(
          1_700_000_000_000,
          Array.from({ length: 33 }, (_, i) => i * 1.5),
        ),
      )
      .slice();
    for (let round = 0; round < 20_000; round++) {
      const bytes =
        round % 2
          ? seed.slice()
          : Uint8Array.from({ length: Math.floor(random() * 80) }, () => random() * 256);
      for (let flips = 0; flips < 3 && bytes.length > 0; flips++)
        bytes[Math.floor(random() * bytes.length)]! ^= 1 << Math.floor(random() * 8);
      const decoder = new FrameDecoder(dictionary);
      try {
        decoder.decode(bytes);
        for (const value of decoder.values) expect(value).not.toBeNaN();
      } catch (error) {
        expect((error as Error).name).toBe('FleetError');
      }
    }
  });
});
