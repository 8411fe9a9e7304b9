import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, skipLoudly } from '../support/data.ts';
import { tempDir } from '../support/temp.ts';

const UNITS = ['gpufleet-agent.service', 'gpufleet-aggregator.service'];
const INSTALLED_NODE = '/usr/lib/gpufleet/bin/node';

const unit = (name: string): string => readFileSync(join(ROOT, 'deploy', 'systemd', name), 'utf8');

const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;
if (!hasAnalyze) skipLoudly('systemd units: there is no systemd-analyze here');

// Lost without it: a typing error in a unit is found on a thousand nodes at once, or a directive silently ignored.
describe.skipIf(!hasAnalyze)('systemd-analyze', () => {
  test.each(UNITS)('verifies %s without a word', async (name) => {
    await using dir = tempDir('systemd');
    const file = join(dir.path, name);
    // Verify looks for the program, which is installed by a package and not here.
    writeFileSync(file, unit(name).replaceAll(INSTALLED_NODE, process.execPath));
    const result = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' });
    const words = `${result.stdout}${result.stderr}`.split('\n').filter((line) => line.includes('gpufleet'));
    expect(words).toEqual([]);
    expect(result.status).toBe(0);
  });

  test.each(UNITS)('rates the exposure of %s as small', (name) => {
    const file = join(ROOT, 'deploy', 'systemd', name);
    // In tenths: below 4.0. A plain service without hardening has 9.6.
    const args = ['security', '--offline=yes', '--threshold=40', file];
    const result = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    expect(result.stderr).not.toMatch(/gpufleet.*(Unknown|invalid)/i);
    expect(result.status, result.stdout.slice(-300)).toBe(0);
  });
});

test.each(UNITS)('%s runs a program of this tree, restarts always but for a bad configuration', (name) => {
  const text = unit(name);
  const [, script] = /^ExecStart=\S+ (?:--\S+ )*\/usr\/lib\/gpufleet\/(\S+)/m.exec(text)!;
  // What `npm run bundle` makes of agent/main.ts: see bundle.test.ts.
  expect(existsSync(join(ROOT, script!.replace(/^dist\/(.*)\.js$/, '$1.ts')))).toBe(true);
  expect(text).toContain('Restart=always');
  expect(text).toContain('RestartPreventExitStatus=2');
  expect(text).toMatch(/^MemoryMax=/m);
});

test('the users of the units are made by the sysusers file', () => {
  const users = unit('gpufleet.sysusers.conf');
  for (const name of UNITS) {
    const [, user] = /^User=(.+)$/m.exec(unit(name))!;
    expect(users).toMatch(new RegExp(`^u ${user} `, 'm'));
  }
});
