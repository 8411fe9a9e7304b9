import { expect, test } from 'vitest';
import { Prng } from '../../../../agent/collect/simulated/prng.ts';

const take = (random: Prng, count: number): number[] => Array.from({ length: count }, () => random.uint32());

// Lost without it: a recorded simulation, a bug report's seed, cannot be played again by a later version.
test('a seed gives the stream that it always gave', () => {
  expect(take(new Prng(1, 'node-a'), 4)).toEqual([1909626354, 2479332393, 3297708156, 2378828087]);
});

// Lost without it: all nodes of a simulated fleet move as one, and a fleet's statistics mean nothing.
test('every word of the seed counts', () => {
  const first = take(new Prng(1, 'node-a', 'gpu', 0), 8);
  for (const other of [
    new Prng(2, 'node-a', 'gpu', 0),
    new Prng(1, 'node-b', 'gpu', 0),
    new Prng(1, 'node-a', 'gpu', 1),
  ]) {
    expect(take(other, 8)).not.toEqual(first);
  }
  expect(take(new Prng('ab', 'c'), 8)).not.toEqual(take(new Prng('a', 'bc'), 8));
});

// Lost without it: load, noise and fault times are lopsided, and "one fault an hour" is not one an hour.
test('the distributions have their means and bounds', () => {
  const random = new Prng('distributions');
  const count = 100_000;
  let [unit, normal, squares, waiting] = [0, 0, 0, 0];
  let outside = 0;
  for (let i = 0; i < count; i++) {
    const u = random.unit();
    const n = random.normal();
    if (u < 0 || u >= 1 || Math.abs(n) > 3.5) outside++;
    unit += u;
    normal += n;
    squares += n * n;
    waiting += random.exponential(60);
  }
  expect(outside).toBe(0);
  expect(unit / count).toBeCloseTo(0.5, 2);
  expect(normal / count).toBeCloseTo(0, 1);
  expect(squares / count).toBeCloseTo(1, 1);
  expect(waiting / count / 60).toBeCloseTo(1, 1);
  const seen = new Set(Array.from({ length: 1000 }, () => random.below(8)));
  expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(random.hex(12)).toMatch(/^[0-9a-f]{12}$/);
});
