import { expect, test } from 'vitest';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { CounterResets } from '../../agent/counter-resets.ts';

const series = (name: string, gpu: string, kind: Series['kind'] = 'counter'): Series => ({
  name,
  labels:
    gpu === ''
      ? []
      : [
          ['gpu', gpu],
          ['uuid', `GPU-${gpu}`],
        ],
  kind,
  decimals: 0,
  help: '',
  unit: '',
});
const all = [
  series('a_total', '0'),
  series('b_total', '0'),
  series('a_total', '1'),
  series('temp', '0', 'gauge'),
  series('x_total', ''),
];
const tick = (
  dictionary: Dictionary,
  atS: number,
  values: readonly number[],
  absent: readonly number[] = [],
) => ({
  dictionary,
  timestampMs: atS * 1000,
  values: Float64Array.from(values),
  states: Uint8Array.from(values, (_, i) => (absent.includes(i) ? SlotState.Timeout : SlotState.Present)),
});

// Lost without it: a driver that was loaded again looks like a GPU without errors.
test('counters that fall are counted, and said once for each GPU; a gauge may fall', () => {
  const resets = new CounterResets();
  const dictionary = createDictionary('nvml', 1000, all);
  expect(resets.observe(tick(dictionary, 1, [10, 20, 30, 60, 5]))).toEqual({ count: 0, events: [] });
  const { count, events } = resets.observe(tick(dictionary, 2, [1, 2, 31, 40, 1]));
  expect(count).toBe(3);
  expect(events).toHaveLength(1);
  expect(events[0]).toMatchObject({
    type: 'counter_reset',
    gpu: '0',
    gpuUuid: 'GPU-0',
    text: expect.stringContaining('a_total from 10 to 1 and 1 more'),
    attributes: { source: 'nvml', counters: '2', names: 'a_total,b_total' },
  });
});

test('a counter that was away in between, or moved to another slot, is compared with its last value', () => {
  const resets = new CounterResets();
  const dictionary = createDictionary('nvml', 1000, all);
  resets.observe(tick(dictionary, 1, [10, 20, 30, 60, 5]));
  resets.observe(tick(dictionary, 2, [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]));
  const moved = createDictionary('nvml', 1000, [series('new', '0', 'gauge'), all[2]!, all[0]!]);
  expect(resets.observe(tick(moved, 3, [0, 30, 9])).events).toMatchObject([{ gpu: '0' }]);
});

test('one that falls at every tick is said once a minute, and counted each time', () => {
  const resets = new CounterResets();
  const dictionary = createDictionary('nvml', 1000, [series('a_total', '0')]);
  let [counted, said] = [0, 0];
  for (let second = 0; second < 120; second++) {
    const { count, events } = resets.observe(tick(dictionary, second, [second % 2 ? 0 : 5]));
    counted += count;
    said += events.length;
  }
  expect([counted, said]).toEqual([60, 2]);
});
