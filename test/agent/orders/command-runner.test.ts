import { chmod, lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { check } from '#shared/config/load-config.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { CommandRunner } from '../../../agent/orders/command-runner.ts';
import { commandsSchema } from '../../../agent/orders/settings.ts';
import { type TempDir, tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';

let dir: TempDir;
let events: FleetEvent[];
beforeEach(() => {
  dir = tempDir('orders');
  events = [];
});
afterEach(() => dir[Symbol.asyncDispose]());

const at = (name: string): string => join(dir.path, name);

/** A program that says what it was called with, counts its runs, and then does this. */
async function program(then = ''): Promise<string> {
  const file = at('program');
  await writeFile(file, `#!/bin/sh\necho run >> ${at('runs')}\n${then}\n`);
  await chmod(file, 0o755);
  return file;
}

async function runs(): Promise<number> {
  return await readFile(at('runs'), 'utf8').then(
    (text) => text.split('\n').length - 1,
    () => 0,
  );
}

function open(commands: object): CommandRunner {
  const { output, faults } = check(commandsSchema, commands);
  if (!output) throw new Error(JSON.stringify(faults));
  return new CommandRunner({
    commands: output,
    node: 'node-a',
    file: at('state/commands.json'),
    passwd: at('passwd'),
    clock: systemClock,
    logger: silentLogger,
    onEvent: (event) => events.push(event),
  });
}

const VALUES = { gpu: '3', gpu_uuid: 'GPU-1f00' };
const silent = (): void => {};
const ask = (id: string, name = 'reset-gpu') => ({ id, name, values: VALUES });

test('a command runs with its arguments and an empty environment, and is an event', async () => {
  const argv = [await program('echo "$@"; env; pwd'), '-i', '{gpu_uuid}', '{gpu}', '{node}', '$HOME `id`'];
  await using runner = open({ 'reset-gpu': { argv } });
  let began = 0;
  const end = await runner.run(ask('s1'), () => began++);
  expect(end).toMatchObject({ outcome: 'succeeded', status: 0 });
  const [args, ...environment] = end.output.trim().split('\n');
  expect(args).toBe('-i GPU-1f00 3 node-a $HOME `id`');
  // PWD, SHLVL and _ are the shell's own.
  expect(environment.filter((line) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(line))).toEqual([
    expect.stringMatching(/^PATH=\/usr\/local\/sbin:/),
    '/',
  ]);
  expect(began).toBe(1);
  expect(events).toMatchObject([
    { type: 'command_run', gpu: '3', gpuUuid: 'GPU-1f00', text: expect.stringContaining('status 0') },
  ]);
  expect(events[0]!.attributes).toMatchObject({
    command: 'reset-gpu',
    id: 's1',
    outcome: 'succeeded',
    status: '0',
  });
});

// Lost without it: an aggregator that asks again after a cut resets a GPU under the job that has just begun on it.
describe('the same step never runs twice', () => {
  test('asked again it tells what became of the first, also after a restart', async () => {
    const argv = [await program('echo out; exit 3')];
    {
      await using runner = open({ 'reset-gpu': { argv } });
      const first = await runner.run(ask('s1'), silent);
      expect(first).toEqual({ outcome: 'failed', status: 3, output: 'out\n' });
      expect(await runner.run(ask('s1'), silent)).toEqual(first);
    }
    await using runner = open({ 'reset-gpu': { argv } });
    expect(await runner.run(ask('s1'), silent)).toEqual({ outcome: 'failed', status: 3, output: 'out\n' });
    expect(await runs()).toBe(1);
    await runner.run(ask('s2'), silent);
    expect(await runs()).toBe(2);
  });

  test('asked again while it runs it waits for that one, and another is not begun beside it', async () => {
    const argv = [await program(`until [ -e ${at('go')} ]; do sleep 0.02; done`)];
    await using runner = open({ 'reset-gpu': { argv } });
    const began = Promise.withResolvers<void>();
    const first = runner.run(ask('s1'), () => began.resolve());
    await began.promise;
    let again = 0;
    const second = runner.run(ask('s1'), () => again++);
    expect(await runner.run(ask('s2'), silent)).toMatchObject({ outcome: 'busy' });
    await writeFile(at('go'), '');
    expect(await Promise.all([first, second])).toMatchObject([
      { outcome: 'succeeded' },
      { outcome: 'succeeded' },
    ]);
    expect([again, await runs()]).toEqual([1, 1]);
  });

  test('one that was under way when the agent crashed is interrupted, for ever', async () => {
    const argv = [await program()];
    await mkdir(at('state'));
    await writeFile(at('state/commands.json'), '[{"id":"s1","name":"reset-gpu"}]');
    await using runner = open({ 'reset-gpu': { argv } });
    expect(await runner.run(ask('s1'), silent)).toMatchObject({ outcome: 'interrupted' });
    expect(await runs()).toBe(0);
  });

  test('where what has run cannot be read, or not be written, nothing runs', async () => {
    const argv = [await program()];
    await mkdir(at('state'));
    await writeFile(at('state/commands.json'), '[{"id":"s1","na');
    await using runner = open({ 'reset-gpu': { argv } });
    const why = expect.stringContaining('commands.json');
    expect(await runner.run(ask('s2'), silent)).toMatchObject({ outcome: 'busy', output: why });
    // Something in its way that is no file, since root may write everywhere.
    await writeFile(at('state/commands.json'), '[]');
    await mkdir(at('state/commands.json.new'));
    expect(await runner.run(ask('s3'), silent)).toMatchObject({ outcome: 'busy' });
    expect(await runs()).toBe(0);
  });

  test('a thousand are remembered, the oldest of more is not, and the file stays small', async () => {
    const argv = [await program('head -c 9000 /dev/zero | tr "\\0" x')];
    const many = Array.from({ length: 1_000 }, (_, i) => ({
      id: `old-${i}`,
      name: 'reset-gpu',
      end: { outcome: 'succeeded', status: 0, output: 'x'.repeat(1_000) },
    }));
    await mkdir(at('state'));
    await writeFile(at('state/commands.json'), JSON.stringify(many));
    await using runner = open({ 'reset-gpu': { argv } });
    const end = await runner.run(ask('new'), silent);
    expect(end.output).toHaveLength(8_192);
    const kept = JSON.parse(await readFile(at('state/commands.json'), 'utf8')) as { id: string }[];
    expect([kept.length, kept[0]!.id, kept.at(-1)!.id]).toEqual([1_000, 'old-1', 'new']);
    expect(JSON.stringify(kept).length).toBeLessThan(200_000);
  });
});

describe('what does not end', () => {
  test('gets SIGTERM at its time limit, with its children, and what it printed is kept', async () => {
    const argv = [await program('echo before; sleep 600 & echo $! > "$0.child"; wait')];
    await using runner = open({ 'reset-gpu': { argv, timeout: '1s' } });
    const end = await runner.run(ask('s1'), silent);
    expect(end).toEqual({ outcome: 'timed_out', status: -1, output: 'before\n' });
    const child = Number(await readFile(at('program.child'), 'utf8'));
    await until(() => isGone(child), { timeoutMs: 10_000, what: 'its child ends' });
  });

  test('and heeds no SIGTERM gets SIGKILL', { timeout: 30_000 }, async () => {
    const argv = [await program("trap '' TERM; echo deaf; while :; do sleep 0.1; done")];
    await using runner = open({ 'reset-gpu': { argv, timeout: '1s' } });
    expect(await runner.run(ask('s1'), silent)).toMatchObject({ outcome: 'timed_out', output: 'deaf\n' });
    // The place is free again.
    await until(async () => (await runner.run(ask('s2', 'reset-gpu'), silent)).outcome !== 'busy', {
      timeoutMs: 20_000,
      what: 'another runs',
    });
  });

  test('is ended with the agent, and is interrupted from then on', async () => {
    const argv = [await program('exec sleep 600')];
    const began = Promise.withResolvers<void>();
    const runner = open({ 'reset-gpu': { argv } });
    const end = runner.run(ask('s1'), () => began.resolve());
    await began.promise;
    await runner[Symbol.asyncDispose]();
    expect(await end).toMatchObject({ outcome: 'interrupted' });
    await using next = open({ 'reset-gpu': { argv } });
    expect(await next.run(ask('s1'), silent)).toMatchObject({ outcome: 'interrupted' });
  });
});

test('what is not on the list, or has no good id, is refused', async () => {
  await using runner = open({ 'reset-gpu': { argv: [await program()] } });
  for (const one of [ask('s1', 'reboot'), ask('s1', 'toString'), ask(''), ask('a b'), ask('x'.repeat(200))])
    expect(await runner.run(one, silent)).toMatchObject({ outcome: 'refused' });
  expect(await runner.run({ ...ask('s1'), values: { gpu: '0;id' } }, silent)).toMatchObject({
    outcome: 'refused',
  });
  expect(await runs()).toBe(0);
});

test('a program that is not there fails, once', async () => {
  await using runner = open({ 'reset-gpu': { argv: [at('none')] } });
  const end = await runner.run(ask('s1'), silent);
  expect(end).toMatchObject({ outcome: 'failed', output: expect.stringContaining('ENOENT') });
  expect(await runner.run(ask('s1'), silent)).toEqual(end);
  expect((await runner.run(ask('s2'), silent)).outcome).toBe('failed');
});

test('a command with a user runs as that user, and not at all without one', async () => {
  await writeFile(at('passwd'), 'root:x:0:0::/:/bin/sh\nops:x:12345:23456::/:/bin/sh\n');
  const commands = {
    who: { argv: ['/usr/bin/id'], user: 'ops' },
    gone: { argv: ['/usr/bin/id'], user: 'nobody-here' },
  };
  await using runner = open(commands);
  const end = await runner.run(ask('s1', 'who'), silent);
  // Only root can become somebody else.
  if (process.getuid?.() === 0) expect(end.output.trim()).toBe('uid=12345 gid=23456 groups=23456');
  else expect(end.outcome).toBe('failed');
  expect(await runner.run(ask('s2', 'gone'), silent)).toMatchObject({ outcome: 'refused' });
});

test.each([
  ['a path that is not absolute', { x: { argv: ['nvidia-smi'] } }],
  ['a program from a placeholder', { x: { argv: ['/{gpu}'] } }],
  ['a placeholder that there is not', { x: { argv: ['/bin/x', '{rack}'] } }],
  ['no program', { x: { argv: [] } }],
  ['a shell line', { x: { argv: '/bin/x -a' } }],
  ['a name with a slash', { '../x': { argv: ['/bin/x'] } }],
  ['no time', { x: { argv: ['/bin/x'], timeout: '0s' } }],
  ['a setting that there is not', { x: { argv: ['/bin/x'], shell: true } }],
])('the configuration is refused with %s', (_, commands) => {
  expect(check(commandsSchema, commands).output).toBeUndefined();
});

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

// Lost without it: whoever can write to the folder has the agent, which may be root, overwrite any file.
test('what it remembers is written through no link, and for its own user alone', async () => {
  await using runner = open({ 'reset-gpu': { argv: [await program()] } });
  await mkdir(at('state'));
  await writeFile(at('victim'), 'theirs');
  await symlink(at('victim'), at('state/commands.json.new'));
  expect(await runner.run(ask('a-0'), silent)).toMatchObject({ outcome: 'succeeded' });
  expect(await readFile(at('victim'), 'utf8')).toBe('theirs');
  const file = await lstat(at('state/commands.json'));
  expect(file.isFile()).toBe(true);
  expect(file.mode & 0o777).toBe(0o600);
});
