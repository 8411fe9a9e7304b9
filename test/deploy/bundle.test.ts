import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { ROOT } from '../support/data.ts';
import { canBuildFakeNvml, fakeNvml } from '../support/fake-nvml/fake-nvml.ts';

/** Below the root, so that the native packages are found as they are beside an installed bundle. */
const folder = mkdtempSync(join(ROOT, '.cache-bundle-'));
const main = join(folder, 'main.js');

beforeAll(() => {
  execFileSync(process.execPath, [join(ROOT, 'deploy/local/bundle.ts'), folder], { stdio: 'ignore' });
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function agent(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    env: { PATH: process.env.PATH },
  });
  return { status, stdout, stderr };
}

// Lost without it: what is installed on every node is not what the tests ran.
test('the bundle is the agent: version, help, a bad configuration, what a source reads', () => {
  expect(agent('--version')).toMatchObject({ status: 0, stdout: `${packageJson.version}\n` });
  expect(agent('--help').stdout).toContain('doctor');
  const config = join(folder, 'agent.yaml');
  writeFileSync(config, 'colectors: {}\n');
  expect(agent('check-config', config).status).toBe(2);
  writeFileSync(config, `data_dir: ${join(folder, 'data')}\ncollectors: { simulated: { gpus: 1 } }\n`);
  const { status, stdout, stderr } = agent('collect', '--config', config);
  expect([status, stderr]).toEqual([0, expect.anything()]);
  expect(stdout).toMatch(/^gpu_power_watts\{.*\} [\d.]+$/m);
});

test.runIf(canBuildFakeNvml())('its NVML process is in it', async () => {
  await using fake = fakeNvml({ gpus: 2 });
  const config = join(folder, 'nvml.yaml');
  writeFileSync(
    config,
    `data_dir: ${join(folder, 'data')}\ncollectors: { nvml: { library: ${fake.library} } }\n`,
  );
  expect(agent('collect', '--config', config).stdout).toMatch(/^gpu_power_watts\{.*gpu="1".*\} [\d.]+$/m);
});

test('it names its native packages, and nothing else', () => {
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  expect(Object.keys(dependencies).sort()).toEqual(['classic-level', 'koffi', 'snappy']);
});
