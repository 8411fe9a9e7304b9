import { expect, test } from 'vitest';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { freshTicks } from '../../../agent/expose/fresh-ticks.ts';

const tick = (group: string, intervalMs: number, timestampMs: number) => ({
  dictionary: createDictionary(group, intervalMs, []),
  timestampMs,
  values: new Float64Array(0),
  states: new Uint8Array(0),
});
const shown = (nowMs: number) =>
  freshTicks([tick('nvml', 1_000, 100_000), tick('slow', 60_000, 100_000)], nowMs).map(
    ({ dictionary }) => dictionary.group,
  );

// Lost without it: what a GPU drew before a pause is shown as what it draws now, beside what another source says.
test('what was not read lately is left out; a slow source has its time, and a clock set back hides nothing', () => {
  expect(shown(100_500)).toEqual(['nvml', 'slow']);
  expect(shown(115_000)).toEqual(['nvml', 'slow']);
  expect(shown(115_001)).toEqual(['slow']);
  expect(shown(280_001)).toEqual([]);
  expect(shown(0)).toEqual(['nvml', 'slow']);
});
