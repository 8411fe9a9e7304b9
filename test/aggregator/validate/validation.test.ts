import { describe, expect, it } from 'vitest';
import { metrics } from '#shared/catalogue/metrics.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { BlockSpan } from '#shared/model/block.ts';
import type { Kind, Series } from '#shared/model/dictionary.ts';
import type { RejectedTick } from '#shared/model/rejection.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { Validation } from '../../../aggregator/validate/validation.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, SOURCE, START_MS } from '../alerts/block-of.ts';

const HOUR_MS = 3_600_000;

function validation(enabled = true) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const told: RejectedTick[] = [];
  const stage = new Validation({
    settings: { enabled, future_tolerance: 600_000, past_tolerance: 24 * HOUR_MS },
    clock,
    registry,
    onRejected: (tick) => told.push(tick),
  });
  const counted = async (reason: string): Promise<number> => {
    const metric = registry.getSingleMetric('gpufleet_validation_rejected_samples_total');
    return (await metric!.get()).values.find(({ labels }) => labels.reason === reason)?.value ?? 0;
  };
  return { stage, clock, told, counted };
}

const one = (name: string, kind: Kind = 'gauge'): Series => ({
  name,
  labels: gpuLabels(0),
  kind,
  decimals: 0,
  help: '',
  unit: '',
});

const TEMPERATURE = one('gpu_temperature_celsius');
const UTILISATION = one('gpu_utilization_ratio');
const ECC = one('gpu_ecc_errors_total', 'counter');
const MIXED = dictionaryOf([
  TEMPERATURE,
  UTILISATION,
  ECC,
  one('vendor_gauge'),
  one('vendor_total', 'counter'),
]);

// Lost without it: one broken sensor's 4,294,967,295 degrees drain a healthy node.
describe('a value that cannot be true is not evaluated', () => {
  it.each([
    ['a temperature of a sensor that does not answer', [151, 0, 0, 0, 0], 0, 'out_of_range'],
    ['a temperature below any silicon', [-50, 0, 0, 0, 0], 0, 'out_of_range'],
    ['a ratio in per cent', [40, 99, 0, 0, 0], 1, 'out_of_range'],
    ['a negative counter', [40, 0, -1, 0, 0], 2, 'negative_counter'],
    ['an infinite gauge that passes through', [40, 0, 0, Number.POSITIVE_INFINITY, 0], 3, 'not_finite'],
    ['no number at all', [40, 0, 0, Number.NaN, 0], 3, 'not_a_number'],
    ['a negative counter that passes through', [40, 0, 0, 0, -5], 4, 'negative_counter'],
  ] as const)('%s', async (_name, values, slot, reason) => {
    const { stage, told, counted } = validation();
    const checked = stage.check(blockOf(MIXED, START_MS, values))!;
    const expected = [0, 0, 0, 0, 0];
    expected[slot] = SlotState.Quarantined;
    expect([...checked.states]).toEqual(expected);
    expect(await counted(reason)).toBe(1);
    expect(told).toHaveLength(1);
    expect(told[0]!.samples).toMatchObject([
      { series: MIXED.series[slot], value: values[slot], reason, count: 1 },
    ]);
  });

  it('the ends of a range are in it, and what passes through may be anything finite', () => {
    const { stage, told } = validation();
    for (const values of [
      [-40, 0, 0, -1e300, 0],
      [150, 1, 2 ** 53, 1e300, 1e300],
    ]) {
      const block = blockOf(MIXED, START_MS, values);
      expect(stage.check(block)).toBe(block);
    }
    expect(told).toEqual([]);
  });

  it('every range of the catalogue holds its own ends and not what is beyond', () => {
    const { stage } = validation();
    for (const { name, kind, min, max } of metrics) {
      const dictionary = dictionaryOf([one(name, kind)]);
      const passes = (value: number) =>
        stage.check(blockOf(dictionary, START_MS, [value]))!.states[0] === SlotState.Present;
      expect([min, max].map(passes), name).toEqual([true, true]);
      expect([min - (Math.abs(min) + 1), 2 * Math.abs(max) + 1].map(passes), name).toEqual([false, false]);
    }
  });
});

// Lost without it: the next frame is decoded over a state that nobody sent, and a value stays quarantined for ever.
it('leaves the block as it came: the store gets the value, and the decoder goes on', () => {
  const { stage } = validation();
  const dictionary = dictionaryOf([TEMPERATURE, UTILISATION]);
  const encoder = new FrameEncoder(dictionary);
  const decoder = new FrameDecoder(dictionary);
  const states = [500, 500, 60].map((celsius, i) => {
    const values = Float64Array.of(celsius, 0.5);
    const timestampMs = START_MS + i * 1000;
    decoder.decode(encoder.encode({ timestampMs, values, states: new Uint8Array(2) }));
    const block = {
      ...{ source: SOURCE, live: true, dictionary, timestampMs },
      values: decoder.values,
      states: decoder.states,
    };
    const checked = stage.check(block)!;
    expect([...block.states]).toEqual([0, 0]);
    expect(block.values[0]).toBe(celsius);
    return checked.states[0];
  });
  expect(states).toEqual([SlotState.Quarantined, SlotState.Quarantined, SlotState.Present]);
});

// Lost without it: a node whose clock ran a day ahead and was corrected is believed fresh, and deaf, for a day.
describe('a tick whose time cannot be true is not evaluated at all', () => {
  it.each([
    ['from the future', 600_001, undefined, 'from_the_future'],
    ['as far ahead as is tolerated', 600_000, 'same', 'from_the_future'],
    ['live and older than a ring', -24 * HOUR_MS - 1, undefined, 'too_old'],
    ['live and as old as a ring', -24 * HOUR_MS, 'same', 'too_old'],
  ] as const)('%s', async (_name, offsetMs, expected, reason) => {
    const { stage, told, counted } = validation();
    const block = blockOf(MIXED, START_MS + offsetMs, [1, 0, 0, undefined, 0]);
    expect(stage.check(block)).toBe(expected === 'same' ? block : undefined);
    expect(await counted(reason)).toBe(expected === 'same' ? 0 : 4);
    expect(told.map(({ samples }) => samples.map(({ series, count }) => [series, count]))).toEqual(
      expected === 'same' ? [] : [[[undefined, 4]]],
    );
  });

  it('backlog is old by its nature', () => {
    const { stage } = validation();
    const block = blockOf(MIXED, START_MS - 48 * HOUR_MS, [1, 0, 0, 0, 0], { live: false });
    expect(stage.check(block)).toBe(block);
  });
});

it('backlog is counted and reported tick by tick, and goes to the store as it came', async () => {
  const { stage, told, counted } = validation();
  const dictionary = dictionaryOf([TEMPERATURE, ECC]);
  const span: BlockSpan = {
    source: SOURCE,
    dictionary,
    ticks: 4,
    timestamps: Float64Array.of(START_MS - 3000, START_MS - 2000, START_MS - 1000, START_MS + HOUR_MS, 0),
    // Longer than needed, as its owner keeps them: what lies behind the rows is not looked at.
    values: Float64Array.of(40, 1, 999, -1, 41, 2, 42, 3, 999, 999),
    states: new Uint8Array(10),
  };
  const before = [...span.states];
  stage.checkSpan(span);
  expect([...span.states]).toEqual(before);
  expect(
    told.map(({ timestampMs, live, samples }) => [timestampMs - START_MS, live, samples.length]),
  ).toEqual([
    [-2000, false, 2],
    [HOUR_MS, false, 1],
  ]);
  expect(await counted('out_of_range')).toBe(1);
  expect(await counted('negative_counter')).toBe(1);
  expect(await counted('from_the_future')).toBe(2);
});

describe('what the agent refused', () => {
  const quarantined = (timestampMs: number) => {
    const block = blockOf(MIXED, timestampMs, [40, 0, 0, 0, 0]);
    block.states[0] = SlotState.Quarantined;
    return block;
  };

  // Lost without it: most wrong values are refused at the node, and nobody at the aggregator hears of any.
  it('is counted at every tick, listed, and reported once an hour: there is no value to keep', async () => {
    const { stage, clock, told, counted } = validation();
    for (let i = 0; i < 10; i++) {
      const block = quarantined(START_MS + i * 1000);
      expect(stage.check(block)).toBe(block);
    }
    expect(await counted('quarantined_by_agent')).toBe(10);
    expect(told).toHaveLength(1);
    expect(stage.rejected('gpu-07.rack3')).toMatchObject([
      { metric: 'gpu_temperature_celsius', value: undefined, count: 10, lastMs: START_MS + 9000 },
    ]);
    clock.ms = START_MS + HOUR_MS;
    stage.check(quarantined(START_MS + HOUR_MS));
    expect(told).toHaveLength(2);
  });
});

it('a source that is wrong altogether is reported in a bounded message, and counted whole', async () => {
  const { stage, told, counted } = validation();
  const dictionary = dictionaryOf(Array.from({ length: 250 }, (_, i) => one(`m_${i}_total`, 'counter')));
  stage.check(blockOf(dictionary, START_MS, new Array<number>(250).fill(-1)));
  expect(told).toHaveLength(1);
  expect(told[0]!.samples).toHaveLength(100);
  expect(told[0]!.omitted).toBe(150);
  expect(await counted('negative_counter')).toBe(250);
  expect(stage.rejected()).toHaveLength(20);
});

it('switched off, everything is evaluated and nothing counted', async () => {
  const { stage, told, counted } = validation(false);
  const block = blockOf(MIXED, START_MS + 48 * HOUR_MS, [999, 0, 0, 0, 0]);
  expect(stage.check(block)).toBe(block);
  stage.checkSpan({ ...block, ticks: 1, timestamps: Float64Array.of(START_MS) });
  expect(told).toEqual([]);
  expect(await counted('out_of_range')).toBe(0);
});
