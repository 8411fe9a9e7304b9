import { expect, test } from 'vitest';
import { PatternBook } from '../../../aggregator/health/patterns/pattern-book.ts';
import { atOnce, inSlices, type Work } from '../../../aggregator/health/work.ts';

function* countTo(steps: number): Work<number> {
  for (let i = 0; i < steps; i++) yield;
  return steps;
}

/** How often the process got to do something else meanwhile. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let over = false;
  const turn = (): void => {
    turns++;
    if (!over) setImmediate(turn);
  };
  setImmediate(turn);
  await work;
  over = true;
  return turns;
}

test('work goes on in slices of ten milliseconds, with the same result as at once', async () => {
  expect(atOnce(countTo(1000))).toBe(1000);
  let ms = 0;
  const work = inSlices(countTo(1000), () => ms++);
  expect(await turnsDuring(work)).toBeGreaterThan(50);
  expect(await work).toBe(1000);
});

test('work that throws rejects', async () => {
  function* broken(): Work<never> {
    yield;
    throw new Error('no');
  }
  await expect(inSlices(broken(), () => 0)).rejects.toThrow('no');
});

// Lost without it: alerts of the whole fleet wait for seconds, each hour, while patterns are looked for.
test('a full journal is looked through while the process does other things, and takes news meanwhile', async () => {
  const DAY = 86_400_000;
  const now = 20_000 * DAY;
  let ms = 0;
  const book = new PatternBook({
    // Every look at the clock is half a slice.
    clock: { now: () => now, monotonic: () => (ms += 5) },
    *nodes() {
      for (let n = 0; n < 3000; n++) yield [`prod/n${n}`, { rack: [`r${n >> 2}`] }];
    },
    gpusOf: () => 8,
    gpusWatched: () => 24_000,
  });
  const source = (n: number) => ({ cluster: 'prod', node: `n${n % 3000}`, externalLabels: [] });
  for (let i = 0; i < 20_000; i++) {
    const age = i < 18_000 ? (i / 18_000) * 80 * DAY : i % 7_000_000;
    book.note(source(i * 7), `GPU-${i}`, `link_flap`, now - age);
  }
  const evaluation = book.evaluate();
  expect(book.evaluate()).toBe(evaluation);
  const turns = turnsDuring(evaluation);
  for (let i = 0; i < 2000; i++) {
    book.note(source(i), `GPU-${i}`, 'gpu_lost', now - i);
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await turns).toBeGreaterThan(100);
  expect(book.evaluate()).not.toBe(evaluation);
  await book.evaluate();
  expect(book.lemons().length).toBeGreaterThan(0);
});
