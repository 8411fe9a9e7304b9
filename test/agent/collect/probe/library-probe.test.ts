import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { LibraryProbe, type ProbeAnswer } from '../../../../agent/collect/probe/library-probe.ts';
import { startProgram } from '../../../support/process.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';

function toyProbe(folder: string, timeoutMs = 20_000): LibraryProbe {
  return new LibraryProbe({
    name: 'toy',
    module: new URL('./toy-library.ts', import.meta.url).href,
    options: { folder },
    timeoutMs,
    startTimeoutMs: 20_000,
    proc: '/proc',
    clock: systemClock,
    logger: silentLogger,
  });
}

const soon = (): AbortSignal => AbortSignal.timeout(20_000);

function told(answer: ProbeAnswer): unknown {
  if ('failure' in answer) return answer;
  return { values: [...answer.values], states: [...answer.states] };
}

test('carries values and states bit for bit, and the description until it changes', async () => {
  await using folder = tempDir('probe');
  await using probe = toyProbe(folder.path);
  const first = await probe.read(3, soon());
  expect(told(first)).toEqual({ values: [1, Number.POSITIVE_INFINITY, 0.1, 3], states: [0, 0, 0, 6] });
  const second = await probe.read(4, soon());
  expect(told(second)).toMatchObject({ values: [2, Number.POSITIVE_INFINITY, 0.1, 4] });
  expect('description' in first && 'description' in second && first.description === second.description).toBe(
    true,
  );
  expect(await probe.read(9, soon())).toEqual({ failure: 'no group 9', state: SlotState.NoPermission });
});

// Lost without it: two collectors of one library mix up their answers.
test('reads that overlap wait for each other and get their own answers', async () => {
  await using folder = tempDir('probe');
  await using probe = toyProbe(folder.path);
  const groups = [1, 2, 3, 4];
  const answers = await Promise.all(
    groups.map(async (group) => {
      const answer = await probe.read(group, soon());
      return 'failure' in answer ? answer.failure : answer.values[3];
    }),
  );
  expect(answers).toEqual(groups);
});

// Lost without it: a slow read blocks its caller, or its late answer is taken for the next one's.
test('a caller goes away at its deadline, the read goes on, and the next one gets its own answer', async () => {
  await using folder = tempDir('probe');
  await using probe = toyProbe(folder.path);
  await probe.read(0, soon());
  writeFileSync(join(folder.path, 'hang'), '');
  expect(await probe.read(1, AbortSignal.timeout(50))).toMatchObject({ state: SlotState.Timeout });
  expect(await probe.read(2, AbortSignal.timeout(50))).toMatchObject({ state: SlotState.Timeout });
  rmSync(join(folder.path, 'hang'));
  expect(told(await probe.read(5, soon()))).toMatchObject({ values: [3, Number.POSITIVE_INFINITY, 0.1, 5] });
  expect(probe.takeEvents()).toEqual([]);
});

test('a child that ends by itself is a crash: said with its last words, and started again after a pause', async () => {
  await using folder = tempDir('probe');
  await using probe = toyProbe(folder.path);
  await probe.read(0, soon());
  writeFileSync(join(folder.path, 'throw'), '');
  expect(await probe.read(0, soon())).toMatchObject({ state: SlotState.Absent });
  expect(await probe.read(0, soon())).toMatchObject({ failure: expect.stringContaining('started again in') });
  const [event] = probe.takeEvents();
  expect(event).toMatchObject({
    type: 'collector_crashed',
    attributes: { crashes: '1', how: 'exit status 1' },
  });
  expect(event!.text).toContain('the library is broken');
  expect(probe.crashes).toBe(1);
  const answer = await until(
    async () => {
      const one = await probe.read(0, soon());
      return 'failure' in one ? undefined : one;
    },
    { timeoutMs: 20_000, what: 'another child reads' },
  );
  expect(answer.values[0]).toBe(1);
});

// Lost without it: each restart of the agent leaves a process that holds the driver.
test('the child ends when the agent is killed', async () => {
  await using folder = tempDir('probe');
  await using owner = await startProgram('test/agent/collect/probe/probe-owner.ts', { args: [folder.path] });
  const pid = await until(() => /child (\d+)/.exec(owner.output)?.[1], {
    timeoutMs: 30_000,
    what: 'the child reads',
  });
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  await owner.kill9();
  await until(() => !existsSync(`/proc/${pid}`), { timeoutMs: 20_000, what: 'the child ends' });
});
