import { expect, test } from 'vitest';
import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { WaitingTicks } from '../../../aggregator/store/waiting-ticks.ts';
import { seededRandom } from '../../support/random.ts';

// Lost without these: samples that wait for a store which is behind, or the memory that they wait in.

const NOW = 1_780_000_000_000;
const source: Source = { cluster: 'c', node: 'n', externalLabels: [] };

function dictionaryOf(slots: number): Dictionary {
  const series = Array.from({ length: slots }, (_, gpu) => ({
    name: 'gpu_x',
    labels: [['gpu', String(gpu)]] as const,
    ...{ kind: 'gauge' as const, decimals: 0, help: '', unit: '' },
  }));
  return createDictionary('g', 1000, series);
}

function blockOf(dictionary: Dictionary, tick: number, values: readonly number[], of = source): Block {
  // Longer than needed and used again by their owner: what is kept must be a copy of what counts.
  const states = Uint8Array.from([...values.map(stateOf), SlotState.Present]);
  return {
    ...{ source: of, dictionary, timestampMs: NOW + tick, live: true },
    ...{ values: Float64Array.from([...values, -1]), states },
  };
}

const stateOf = (value: number): SlotState =>
  value % 5 === 0 ? SlotState.Absent : value % 7 === 0 ? SlotState.Stale : SlotState.Present;

test('whatever waits is taken once, as it was given, the longest waiting first', () => {
  const random = seededRandom(11);
  const waiting = new WaitingTicks<string>();
  const dictionaries = [1, 3, 3, 40].map(dictionaryOf);
  const [given, taken]: [string[], string[]] = [[], []];
  const take = (): void => {
    const { span } = waiting.take()!;
    const slots = span.dictionary.series.length;
    for (let t = 0; t < span.ticks; t++) {
      const at = span.timestamps[t]!;
      if (t > 0) expect(at).toBeGreaterThan(span.timestamps[t - 1]!);
      const of = dictionaries.indexOf(span.dictionary);
      const [values, states] = [span.values, span.states].map((all) =>
        all.slice(t * slots, (t + 1) * slots).join(),
      );
      taken.push(`${of} ${at} ${values} ${states}`);
    }
  };
  for (let tick = 0; tick < 2_000; tick++) {
    const of = Math.floor(random() * dictionaries.length);
    const values = dictionaries[of]!.series.map(() => 1 + Math.floor(random() * 1_000));
    const block = blockOf(dictionaries[of]!, tick, values);
    void waiting.add(block);
    block.values.fill(0);
    block.states.fill(SlotState.Quarantined);
    given.push(`${of} ${NOW + tick} ${values.join()} ${values.map(stateOf).join()}`);
    if (!waiting.isEmpty && random() < 0.15) take();
  }
  while (!waiting.isEmpty) take();
  expect(taken.toSorted()).toEqual(given.toSorted());
  expect([waiting.samples, waiting.bytes, waiting.take()]).toEqual([0, 0, undefined]);
});

test('counts samples, and bytes of what it keeps', () => {
  const waiting = new WaitingTicks<string>();
  void waiting.add(blockOf(dictionaryOf(4), 0, [1, 5, 7, 2]));
  expect(waiting.samples).toBe(3);
  expect(waiting.bytes).toBe(4 * (8 + 1));
});

test('ticks go together as long as they are sixteen at most, rising, of one source, and of one request', () => {
  const lengthsOf = (blocks: readonly Block[]): number[] => {
    const waiting = new WaitingTicks<string>();
    for (const block of blocks) void waiting.add(block);
    const lengths = [];
    for (let taken = waiting.take(); taken; taken = waiting.take()) lengths.push(taken.span.ticks);
    return lengths;
  };
  const small = dictionaryOf(2);
  const ticks = (times: readonly number[], of = source): Block[] =>
    times.map((at) => blockOf(small, at, [1, 2], of));
  expect(lengthsOf(ticks(Array.from({ length: 35 }, (_, i) => i)))).toEqual([16, 16, 3]);
  expect(lengthsOf(ticks([1, 2, 2, 3, 1]))).toEqual([2, 2, 1]);
  expect(lengthsOf([...ticks([1, 2]), ...ticks([3, 4], { ...source, node: 'm' })])).toEqual([2, 2]);
  const large = dictionaryOf(15_000);
  const zeros = large.series.map(() => 1);
  expect(lengthsOf([1, 2, 3].map((at) => blockOf(large, at, zeros)))).toEqual([2, 1]);
  const huge = dictionaryOf(50_000);
  expect(lengthsOf([1, 2].map((at) => blockOf(huge, at, Array(50_000).fill(1))))).toEqual([1, 1]);
});

test('each tick hears what became of its own', async () => {
  const waiting = new WaitingTicks<string>();
  const [a, b, c] = [dictionaryOf(1), dictionaryOf(1), dictionaryOf(1)];
  const outcomes = [a, b, a, c].map((dictionary, tick) => waiting.add(blockOf(dictionary, tick, [1])));
  waiting.take()!.resolve('a');
  waiting.take()!.resolve(Promise.resolve('b'));
  waiting.clear('rest');
  expect(await Promise.all(outcomes)).toEqual(['a', 'b', 'a', 'rest']);
  expect(waiting.isEmpty).toBe(true);
});
