import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { check, parseYaml } from '#shared/config/load-config.ts';
import { aggregatorConfigSchema } from '../../aggregator/config.ts';
import { loadProfiles } from '../../aggregator/health/profiles/load-profiles.ts';
import { ROOT } from '../support/data.ts';

// Lost without it: the first thing that somebody copies does not start.
test('the example of a profile lies over the shipped one', async () => {
  const profiles = await loadProfiles(join(ROOT, 'deploy', 'examples', 'profiles'));
  const own = profiles.choose('NVIDIA H100 80GB HBM3', Number.NaN);
  expect(own).toMatchObject({ name: 'h100', version: 2, limits: { max_operating_celsius: 80 } });
  expect(own.signals.find(({ name }) => name === 'memory_margin')).toMatchObject({ points: [20, 10, 5, 0] });
  expect(own.signals.map(({ name }) => name)).not.toContain('agent_gaps');
  expect([...own.events.xidCaps.keys()].sort()).toEqual([119, 79, 95]);
});

test('what the compose file of the aggregator offers as a comment is configuration', () => {
  const text = readFileSync(join(ROOT, 'deploy', 'compose', 'aggregator.yaml'), 'utf8');
  const [, offered] = text.split('aggregator/README.md has all of it.\n');
  const prose = /^# [A-Z]/;
  const yaml = offered!
    .split('\n')
    .filter((line) => !prose.test(line))
    .map((line) => line.replace(/^# /, ''))
    .join('\n');
  expect(check(aggregatorConfigSchema, parseYaml(yaml, 'the comment')).faults ?? []).toEqual([]);
  expect(Object.keys(parseYaml(yaml, 'the comment') as object)).toEqual([
    'health',
    'assets',
    'validation',
    'publish',
  ]);
});

// Lost without it: a threshold in the documentation that is not the one that counts.
test('the table of signals in the documentation says what the generic profile has', () => {
  const readme = readFileSync(join(ROOT, 'aggregator', 'README.md'), 'utf8');
  const file = join(ROOT, 'aggregator', 'health', 'profiles', 'generic.yaml');
  const { signals } = parseYaml(readFileSync(file, 'utf8'), file) as { signals: Record<string, Signal> };
  const rows = [
    ...readme.matchAll(/^\| (\w+) +\| `(\w+)`( \(required\))? +\|.*\| ([^|]+) \| ([^|]+) \| ([^|]*) \|$/gm),
  ];
  const written = rows.map(([, dimension, name, required, points, weight, cap]) => ({
    ...{ name, dimension, required: required !== undefined },
    points: points!.replace('(log)', '').split(',').map(Number),
    ...{ weight: Number(weight), caps: cap!.trim() === '' ? [] : cap!.split(',').map(Number) },
  }));
  expect(written).toEqual(
    Object.entries(signals).map(([name, { dimension, required = false, points, weight, caps = [] }]) => ({
      ...{ name, dimension, required, points, weight, caps: caps.map(({ score }) => score) },
    })),
  );
});

interface Signal {
  readonly dimension: string;
  readonly required?: boolean;
  readonly points: readonly number[];
  readonly weight: number;
  readonly caps?: readonly { readonly score: number }[];
}
