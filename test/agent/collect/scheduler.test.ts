import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Clock } from '#shared/model/clock.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { Collector, Reading } from '../../../agent/collect/collector.ts';
import { schedule } from '../../../agent/collect/scheduler.ts';
import { until } from '../../support/wait.ts';

const dictionary = createDictionary('s', 20, []);
const reading: Reading = {
  dictionary,
  timestampMs: 0,
  values: new Float64Array(0),
  states: new Uint8Array(0),
  events: [],
  rejected: new Map(),
};

/** Runs a schedule until the body is done; the wall clock can be moved. */
async function run(
  collect: Collector['collect'],
  body: (
    seen: { stamps: number[]; failures: unknown[]; missed: number },
    step: (ms: number) => void,
  ) => Promise<void>,
  { intervalMs = 20 } = {},
) {
  let offset = 0;
  const clock: Clock = { now: () => Date.now() + offset, monotonic: () => performance.now() };
  let shifts = 0;
  const seen = { stamps: [] as number[], failures: [] as unknown[], missed: 0 };
  const stop = new AbortController();
  const running = schedule(
    {
      collector: {
        name: 's',
        intervalMs,
        rank: 50,
        holdsDevice: false,
        describe: () => 'a test',
        collect,
        async [Symbol.asyncDispose]() {},
      },
      clock,
      phase: 0.5,
      shift: () => shifts++,
      onReading: async ({ timestampMs }) => void seen.stamps.push(timestampMs),
      onFailure: (error) => seen.failures.push(error),
      onMissed: (ticks) => {
        seen.missed += ticks;
      },
    },
    stop.signal,
  );
  await body(seen, (ms) => {
    offset += ms;
  });
  stop.abort();
  await running;
  return seen;
}

test('ticks stand on the grid of the interval, none twice', async () => {
  const { stamps } = await run(
    async () => reading,
    async ({ stamps }) => {
      await until(() => stamps.length >= 10, { timeoutMs: 10_000, what: '10 ticks' });
    },
  );
  expect(stamps.filter((at) => at % 20 === 10).length).toBeGreaterThanOrEqual(stamps.length - 2);
  expect(new Set(stamps).size).toBe(stamps.length);
});

test('a clock that steps back makes no timestamp come twice', async () => {
  const { stamps } = await run(
    async () => reading,
    async ({ stamps }, step) => {
      await until(() => stamps.length >= 5, { timeoutMs: 10_000, what: 'ticks' });
      step(-200);
      await until(() => stamps.length >= 30, { timeoutMs: 10_000, what: 'ticks after the step' });
    },
  );
  expect(new Set(stamps).size).toBe(stamps.length);
});

test('a source that hangs is given up at its deadline, and the next tick is tried', async () => {
  let calls = 0;
  const { failures, stamps } = await run(
    (signal) =>
      calls++ === 0
        ? new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        : Promise.resolve(reading),
    async ({ stamps }) => {
      await until(() => stamps.length >= 2, { timeoutMs: 10_000, what: 'ticks after the hang' });
    },
  );
  expect(String(failures[0])).toContain('no answer within its deadline');
  expect(stamps.length).toBeGreaterThanOrEqual(2);
});

// Lost without it: gaps that nobody can explain.
test('a read that takes three intervals skips the ticks in between, and they are counted', async () => {
  let calls = 0;
  const { missed, stamps } = await run(
    async () => {
      if (calls++ === 2) await sleep(70);
      return reading;
    },
    async ({ stamps }) => {
      await until(() => stamps.length >= 6, { timeoutMs: 10_000, what: 'ticks after the slow one' });
    },
  );
  expect(missed).toBeGreaterThanOrEqual(2);
  expect(new Set(stamps).size).toBe(stamps.length);
});

// Lost without it: a stop waits for the source with the longest interval, up to five minutes.
test('the end comes at once, whether the schedule waits or reads', async () => {
  const { stamps } = await run(
    async () => reading,
    async () => {},
    { intervalMs: 300_000 },
  );
  expect(stamps).toEqual([]);
  const reasons: unknown[] = [];
  const began = Promise.withResolvers<void>();
  await run(
    (signal) => {
      began.resolve();
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          reasons.push((signal.reason as Error).name);
          reject(signal.reason);
        }),
      );
    },
    () => began.promise,
    { intervalMs: 500 },
  );
  // Not at its own deadline, which comes later.
  expect(reasons).toEqual(['AbortError']);
});
