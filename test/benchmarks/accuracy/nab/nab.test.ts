import { describe, expect, test } from 'vitest';
import { anomalyScores, nabAccuracy } from '../../../../benchmarks/accuracy/nab/nab.ts';
import { DATA_DIR, sharedData } from '../../../support/data.ts';

const options = (dataDir: string | undefined, said: string[]) => ({
  seed: 1,
  tiny: true,
  dataDir,
  log: (line: string) => void said.push(line),
});

describe.skipIf(!sharedData('nab'))('the shipped detector on NAB', () => {
  test('scores at least 60 with the range known and 50 causally, and says what was tuned', async () => {
    const said: string[] = [];
    const metrics = await nabAccuracy(options(DATA_DIR, said));
    expect(metrics.nab_standard_known_range).toBeGreaterThanOrEqual(60);
    expect(metrics.nab_standard_causal).toBeGreaterThanOrEqual(50);
    expect(Object.values(metrics).every((score) => score > 40 && score < 100)).toBe(true);
    expect(said.join('\n')).toMatch(/Numenta HTM +70\.1[\s\S]*tuned on these files/);
  });
});

test('causal means causal: what comes later, and how long the file is, changes nothing before', () => {
  const values = Float64Array.from({ length: 1200 }, (_, at) => Math.sin(at / 9) + (at > 1000 ? 50 : 0));
  const one = (of: Float64Array) => ({ name: '', values: of, probation: 0, windows: [] });
  const [whole] = anomalyScores([one(values)], false);
  const [part] = anomalyScores([one(values.slice(0, 1000))], false);
  expect([...part!]).toEqual([...whole!.slice(0, 1000)]);
  expect(whole!.slice(1000).some((score) => score >= 1)).toBe(true);
});

test('without the corpus there are no figures, and that is said', async () => {
  const said: string[] = [];
  expect(await nabAccuracy(options(undefined, said))).toEqual({});
  expect(said.join()).toContain('SKIPPED');
});
