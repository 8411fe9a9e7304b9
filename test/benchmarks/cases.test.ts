import { expect, test } from 'vitest';
import { CASES } from '../../benchmarks/cases.ts';
import { toJson, toTable } from '../../benchmarks/report.ts';
import { DATA_DIR, skipLoudly } from '../support/data.ts';

/** What is best at nothing, and what a moment is too short to show. */
const MAY_BE_ZERO = /lost|lag|buffer_disk|cpu_seconds|cpu_ms|missed|catchup_samples|false_alarms/;
/** Whose load is not the trace. */
const WITHOUT_TRACE = ['peers', 'alert'];

test.each(CASES)(
  'case $name still runs and gives numbers: a benchmark that rots measures nothing',
  { timeout: 120_000 },
  async (one) => {
    const said: string[] = [];
    const metrics = await one.run({
      seed: 1,
      tiny: true,
      dataDir: DATA_DIR,
      log: (line) => said.push(line),
    });
    // A case may lack a server or a right here; it says so, and where everything must be there it fails.
    const skipped = said.find((line) => line.startsWith('SKIPPED'));
    if (skipped !== undefined && !process.env.CI) skipLoudly(skipped);
    else expect(Object.keys(metrics).length).toBeGreaterThan(0);
    for (const [name, value] of Object.entries(metrics)) {
      expect(Number.isFinite(value), name).toBe(true);
      if (MAY_BE_ZERO.test(name)) expect(value, name).toBeGreaterThanOrEqual(0);
      else expect(value, name).toBeGreaterThan(0);
    }
  },
);

test('where the reference trace is not there, the cases make their own and say so', {
  timeout: 180_000,
}, async () => {
  const said: string[] = [];
  for (const one of CASES.filter(({ name }) => !WITHOUT_TRACE.includes(name))) {
    const metrics = await one.run({
      seed: 1,
      tiny: true,
      dataDir: undefined,
      log: (line) => said.push(line),
    });
    for (const [name, value] of Object.entries(metrics))
      expect(value, `${one.name} ${name}`).toBeGreaterThanOrEqual(0);
  }
  expect(said.join()).toContain('a synthetic one is used');
});

test('the report: a table for people, one object for programs, medians in both', () => {
  const results = [
    {
      name: 'codec',
      runs: [{ bytes_per_sample: 1 }, { bytes_per_sample: 9 }, { bytes_per_sample: 2 }],
      otherCores: [0, 0.5, 0.1],
    },
  ];
  expect(JSON.parse(toJson(results))).toEqual({ cases: { codec: { bytes_per_sample: 2 } } });
  expect(toTable(results)).toMatch(/codec +\| bytes_per_sample +\| 2\.000 +\| 1\.000 – 9\.000 +\| 0\.10/);
});
