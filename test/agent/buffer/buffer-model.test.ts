import { expect, test } from 'vitest';
import { checkSequence } from './buffer-model.ts';

const SEQUENCES = 300;
const OPERATIONS = 8;

// Lost without it: any order of appends, marks, compaction, trims, restarts and damage that nobody thought of.
test(`${SEQUENCES} random lives of a buffer: every record comes back as it was, or is said to be lost`, async () => {
  let done = 0;
  for (let seed = 1; seed <= SEQUENCES; seed++) {
    await checkSequence(seed, OPERATIONS);
    done++;
  }
  expect(done).toBe(SEQUENCES);
}, 240_000);
