import { expect, test } from 'vitest';
import { checkSequence } from './buffer-model.ts';

const SEQUENCES = 10_000;
const OPERATIONS = 8;

// Lost without it: what only one of ten thousand orders of events shows.
test(`${SEQUENCES} random lives of a buffer: every record comes back as it was, or is said to be lost`, async () => {
  let done = 0;
  // Other seeds than the short test's.
  for (let seed = 1_000_001; seed <= 1_000_000 + SEQUENCES; seed++) {
    await checkSequence(seed, OPERATIONS);
    done++;
  }
  expect(done).toBe(SEQUENCES);
}, 2_400_000);
