import { expect, test } from 'vitest';
import { damagedInputs, MUTATIONS, TRUNCATIONS } from './damaged-inputs.ts';

const PAGE = Buffer.from(
  Array.from({ length: 40 }, (_, i) => `gpu_power_watts{gpu="${i}"} ${i * 17}\n`).join(''),
);

// If these broke, every test of a damaged capture would test less than it says.

test('gives 20 truncations at even places, then 200 inputs that differ from the capture', () => {
  const inputs = [...damagedInputs(PAGE, 1)];
  expect(inputs).toHaveLength(TRUNCATIONS + MUTATIONS);
  const cuts = inputs.slice(0, TRUNCATIONS);
  expect(cuts.map(({ bytes }) => bytes.length)).toEqual(
    Array.from({ length: 20 }, (_, i) => Math.floor((PAGE.length * i) / 20)),
  );
  for (const { bytes } of cuts) expect(PAGE.subarray(0, bytes.length).equals(bytes)).toBe(true);
  for (const { what, bytes } of inputs) expect(bytes.equals(PAGE), what).toBe(false);
});

test('makes every kind of edit, and leaves the capture as it is', () => {
  const before = Buffer.from(PAGE);
  const kinds = new Set([...damagedInputs(PAGE, 2)].map(({ what }) => what.replace(/\d+/g, '#')));
  expect([...kinds].sort()).toEqual([
    'bit # of byte # flipped',
    'byte # replaced by #',
    'bytes # to # deleted',
    'bytes # to # doubled',
    'cut after # bytes',
    'lines # and # (from #) swapped',
  ]);
  expect(PAGE.equals(before)).toBe(true);
});

test('gives the same for the same seed, so that a failure can be repeated, and other inputs for another', () => {
  const inputs = (seed: number) =>
    [...damagedInputs(PAGE, seed)].map(({ bytes }) => bytes.toString('latin1'));
  expect(inputs(7)).toEqual(inputs(7));
  expect(inputs(7)).not.toEqual(inputs(8));
});

test('copes with captures that have nothing to edit', () => {
  for (const capture of ['', 'a', '\n\n\n']) {
    const inputs = [...damagedInputs(Buffer.from(capture), 3)];
    expect(inputs).toHaveLength(TRUNCATIONS + MUTATIONS);
    for (const { what, bytes } of inputs.slice(TRUNCATIONS))
      expect(bytes.toString('latin1'), what).not.toBe(capture);
  }
});
