import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { Tool, type ToolOptions } from '../../../../agent/collect/probe/tool.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';

function shell(script: string, options: Partial<ToolOptions> = {}): Tool {
  return new Tool({
    name: 'a-tool',
    command: 'sh',
    args: ['-c', script],
    maxBytes: 10_000,
    proc: '/proc',
    clock: systemClock,
    logger: silentLogger,
    ...options,
  });
}

const soon = (): AbortSignal => AbortSignal.timeout(20_000);

/** Ignores SIGTERM as a process in the kernel does, counts it in `terms`, and ends when `end` is there. */
function stubborn(folder: TempDir): string {
  return `cd ${folder.path}; echo x >> starts; mkdir -p proc/$$/task/7
    printf '%s (nvidia (smi)) S 1 1' $$ > proc/$$/stat; printf 'pipe_read' > proc/$$/wchan
    printf '7 (worker) D 1 1' > proc/$$/task/7/stat; printf 'os_acquire_mutex' > proc/$$/task/7/wchan
    trap 'echo x >> terms' TERM; touch ready; while [ ! -e end ]; do sleep 0.02; done`;
}

test('gives what the tool prints, with other arguments where it is told to', async () => {
  await using tool = shell('echo "$0 $LC_ALL"', { env: {} });
  expect((await tool.run(soon())).toString()).toBe('sh C\n');
  expect((await tool.run(soon(), ['-c', 'echo other'])).toString()).toBe('other\n');
});

// Lost without it: nobody learns why nvidia-smi fails.
test('says in words why there is no output', async () => {
  await using failing = shell('echo no devices were found; exit 6');
  await expect(failing.run(soon())).rejects.toThrow('Cannot run sh: exit status 6: no devices were found');
  await using missing = shell('', { command: '/nowhere/nvidia-smi' });
  await expect(missing.run(soon())).rejects.toMatchObject({ code: 'unavailable' });
  expect(missing.takeEvents()).toEqual([]);
});

// Lost without it: a tool that prints without end fills the agent's memory.
test('refuses more output than the limit', async () => {
  await using tool = shell('while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxx; done');
  await expect(tool.run(soon())).rejects.toMatchObject({ code: 'resource_exhausted' });
});

// Lost without it: a slow tool is reported as a wedged driver.
test('a tool that ends at SIGTERM is late and not stuck, and runs again', async () => {
  await using tool = shell('echo started; exec sleep 600');
  await expect(tool.run(AbortSignal.timeout(100))).rejects.toThrow('no answer within its deadline');
  const output = await until(() => tool.run(soon(), ['-c', 'echo again']), {
    timeoutMs: 20_000,
    what: 'the tool runs again',
  });
  expect(output.toString()).toBe('again\n');
  expect(tool.takeEvents()).toEqual([]);
});

// Lost without it: a GPU freezes because its collector was killed, or wedged tools pile up.
test('one that does not end gets SIGTERM once, is said with its wait channel, and none runs beside it', async () => {
  await using folder = tempDir('tool');
  const path = (name: string): string => join(folder.path, name);
  mkdirSync(path('proc'));
  await using tool = shell(stubborn(folder), { proc: path('proc') });
  const deadline = new AbortController();
  const run = tool.run(deadline.signal);
  await until(() => existsSync(path('ready')), { timeoutMs: 20_000, what: 'the tool traps SIGTERM' });
  deadline.abort();
  await expect(run).rejects.toMatchObject({ code: 'unavailable' });
  const [begin] = await until(() => eventsOf(tool), { timeoutMs: 20_000, what: 'it is stuck' });
  expect(begin).toMatchObject({
    type: 'collector_stuck',
    attributes: {
      source: 'a-tool',
      phase: 'begin',
      state: 'D',
      wait_channel: 'os_acquire_mutex',
      thread: '7',
    },
  });
  expect(tool.stuck).toBe(true);
  for (let i = 0; i < 3; i++) await expect(tool.run(soon())).rejects.toThrow('no second one');
  expect(readFileSync(path('starts'), 'utf8')).toBe('x\n');
  expect(readFileSync(path('terms'), 'utf8')).toBe('x\n');
  writeFileSync(path('end'), '');
  const [over] = await until(() => eventsOf(tool), { timeoutMs: 20_000, what: 'it is over' });
  expect(over).toMatchObject({ type: 'collector_stuck', attributes: { phase: 'over' } });
  expect((await tool.run(soon(), ['-c', 'echo back'])).toString()).toBe('back\n');
});

// Lost without it: the agent does not stop while a driver hangs.
test('is disposed although its process does not end, and who comes after it starts none beside it', async () => {
  await using folder = tempDir('tool');
  const tool = shell(stubborn(folder));
  const deadline = new AbortController();
  const run = tool.run(deadline.signal).catch(() => 'late');
  await until(() => existsSync(join(folder.path, 'ready')), { timeoutMs: 20_000, what: 'the tool runs' });
  deadline.abort();
  await run;
  await tool[Symbol.asyncDispose]();

  // Lost without it: each pause and each reload adds a process that hangs in the driver.
  await using next = shell('echo next');
  await expect(next.run(soon())).rejects.toThrow('hangs and does not end; no second one');
  expect(next.stuck).toBe(true);
  writeFileSync(join(folder.path, 'end'), '');
  const [over] = await until(() => eventsOf(next), { timeoutMs: 20_000, what: 'it is over' });
  expect(over).toMatchObject({ attributes: { phase: 'over' } });
  expect((await next.run(soon())).toString()).toBe('next\n');
});

function eventsOf(tool: Tool) {
  const events = tool.takeEvents();
  return events.length > 0 ? events : undefined;
}
