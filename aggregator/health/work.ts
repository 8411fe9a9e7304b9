import { setImmediate } from 'node:timers/promises';

/** Work that can stop at each `yield` and go on later: nothing outside may change what it looks at meanwhile. */
export type Work<T> = Generator<void, T>;

/** Between two looks at the rest of the process, ms: a tenth of the time in which an alert must be out. Own judgement. */
const SLICE_MS = 10;

/** Lets the process do other things every ten milliseconds. */
export async function inSlices<T>(work: Work<T>, monotonic: () => number): Promise<T> {
  let sinceMs = monotonic();
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
    if (monotonic() - sinceMs < SLICE_MS) continue;
    await setImmediate();
    sinceMs = monotonic();
  }
}

/** Without a pause. */
export function atOnce<T>(work: Work<T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}
