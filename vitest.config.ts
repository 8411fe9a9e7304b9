import { configDefaults, defineConfig } from 'vitest/config';
import { LongFirst } from './test/support/long-first.ts';

/** `npm run test:all` sets this: the long tests too. */
const all = process.env.GPUFLEET_TESTS === 'all';

export default defineConfig({
  test: {
    environment: 'node',
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(all ? [] : ['test/**/*.long.test.ts'])],
    // Processes, not threads: native modules (LevelDB, snappy) and signals behave as they do in the product.
    pool: 'forks',
    // One more than the cores of a small machine: much of the time is waiting for real programs.
    maxWorkers: 3,
    sequence: { sequencer: LongFirst },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    globalSetup: ['test/support/servers-setup.ts'],
    reporters: ['default', './test/support/summary-reporter.ts'],
  },
});
