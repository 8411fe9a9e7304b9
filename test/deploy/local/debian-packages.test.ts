import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../../support/data.ts';
import { Child } from '../../support/process.ts';
import { tempDir } from '../../support/temp.ts';

const FETCH = `
  import { findServer, NATS_SERVER } from ${JSON.stringify(join(ROOT, 'deploy/local/servers.ts'))};
  console.log('FOUND', JSON.stringify(await findServer(NATS_SERVER, { log: (line) => console.log('SAID', line) })));`;

/**
 * Runs findServer with an empty cache and made-up apt-get and dpkg-deb first on PATH, which do what the real
 * ones do to the folder they run in, and with `fail` answer as without a network.
 */
async function fetchWith(dir: string, fail: boolean): Promise<string> {
  const bin = join(dir, 'bin');
  mkdirSync(bin, { recursive: true });
  const script = (name: string, body: string): void => {
    writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >> ${dir}/calls\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  };
  script(
    'apt-get',
    fail
      ? 'echo "E: no network" >&2; exit 100'
      : 'case "$*" in *download*) sleep 0.2; touch nats-server_2.9_amd64.deb;; esac',
  );
  script(
    'dpkg-deb',
    'case "$1 $3" in "-f Package") echo nats-server;; "-f Version") echo 1:2.9/x;; *) mkdir -p "$3/usr/sbin"; cp /bin/true "$3/usr/sbin/nats-server";; esac',
  );
  await using child = await Child.start({
    name: 'fetch',
    command: process.execPath,
    args: ['--input-type=module', '--eval', FETCH],
    env: { PATH: `${bin}:/usr/bin:/bin`, XDG_CACHE_HOME: join(dir, 'cache'), NODE_OPTIONS: undefined },
    cwd: ROOT,
  });
  await child.exited;
  return child.output;
}

const systemHasNats = [
  '/usr/sbin/nats-server',
  '/usr/bin/nats-server',
  '/usr/local/sbin/nats-server',
  '/bin/nats-server',
].some(existsSync);

// Lost without it: a first npm start leaves half a package behind, and every later one fails on it.
test.skipIf(systemHasNats)(
  'two at once fetch once, say so first, and leave only the whole package',
  async () => {
    await using dir = tempDir('apt');
    const outputs = await Promise.all([fetchWith(dir.path, false), fetchWith(dir.path, false)]);
    const cache = join(dir.path, 'cache', 'gpufleet');
    expect(readdirSync(cache)).toEqual(['nats-server-1_2.9_x']);
    const binary = join(cache, 'nats-server-1_2.9_x', 'usr/sbin/nats-server');
    for (const output of outputs) expect(output).toContain(`FOUND {"binary":"${binary}"}`);
    expect(outputs.filter((output) => output.includes('SAID downloading nats-server'))).toHaveLength(1);
  },
);

test.skipIf(systemHasNats)('without a network it says why, keeps nothing, and does not throw', async () => {
  await using dir = tempDir('apt');
  const output = await fetchWith(dir.path, true);
  expect(output).toMatch(/FOUND \{"reason":"Cannot run apt-get .*E: no network"\}/);
  expect(readdirSync(join(dir.path, 'cache', 'gpufleet'))).toEqual([]);
});
