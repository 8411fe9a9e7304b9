import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startProgram } from '../support/process.ts';
import { tempDir } from '../support/temp.ts';

// Lost without it: a configuration that is called good, and an aggregator that does not start with it.
test('--check-config reads the files of alerts, and says every fault of each', async () => {
  await using dir = tempDir('check');
  const file = (name: string): string => join(dir.path, `${name}.yaml`);
  const check = async (): Promise<{ status: number | null; output: string }> => {
    await using child = await startProgram('aggregator/main.ts', {
      args: ['--config', file('aggregator'), '--check-config'],
    });
    const { status } = await child.exited;
    return { status, output: child.output };
  };
  const names = ['rules', 'notify', 'actions'];
  const lines = names.map((name) => `  ${name}: ${file(name)}\n`).join('');
  await writeFile(file('aggregator'), `alerts:\n${lines}`);
  await writeFile(file('rules'), 'rules:\n  - { name: hot }\n  - { nam: cold }\n');
  await writeFile(file('notify'), 'route: { receiver: nobody }\nreceivers: []\n');
  const bad = await check();
  expect(bad.status).toBe(2);
  expect(bad.output).toMatch(/rules\.yaml:2:/);
  expect(bad.output).toMatch(/rules\.yaml:3:/);
  expect(bad.output).toMatch(/notify\.yaml:1:/);
  expect(bad.output).toContain(file('actions'));
  expect(bad.output).not.toContain('is good');

  const limit = 'severities: [{ severity: critical, above: 90 }]';
  await writeFile(file('rules'), `rules: [{ name: hot, metric: gpu_temperature_celsius, ${limit} }]\n`);
  await writeFile(
    file('notify'),
    "route: { receiver: a }\nreceivers: [{ name: a, webhook: [{ url: 'http://127.0.0.1:9/' }] }]\n",
  );
  const steps = 'steps: [{ mark: degraded }]';
  await writeFile(file('actions'), `policies: [{ name: a, matchers: ['rule=hot'], ${steps} }]\n`);
  expect(await check()).toEqual({ status: 0, output: 'the configuration is good\n' });
});
