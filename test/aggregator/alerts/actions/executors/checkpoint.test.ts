import * as v from 'valibot';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkpointKind } from '../../../../../aggregator/alerts/actions/executors/checkpoint.ts';
import { contextOf, depsOf, inTime, TARGET } from './fixtures.ts';
import { HookServer } from './hook-server.ts';

let hook: HookServer;
let nowMs: number;
beforeEach(async () => {
  hook = await HookServer.start();
  nowMs = 1_000;
});
afterEach(() => hook[Symbol.asyncDispose]());

async function open(settings: object) {
  const clock = { now: () => nowMs, monotonic: () => nowMs };
  const parsed = v.parse(checkpointKind.schema, { url: hook.url, wait: '10m', ...settings });
  const executor = await checkpointKind.open(parsed, depsOf({ clock }));
  return Object.assign(executor, { next: () => executor.execute(TARGET, contextOf(), inTime()) });
}

// Lost without it: a node is drained while its job is still writing, and hours of training go.
test('it is asked for once, and waited for until the status says that it is done', async () => {
  await using executor = await open({ status_url: `${hook.url}/status` });
  hook.answer = '{"accepted": true}';
  expect(await executor.next()).toMatchObject({ outcome: 'waiting', afterMs: 10_000 });
  expect(await executor.next()).toMatchObject({ outcome: 'waiting' });
  hook.answer = '{"done": true}';
  nowMs += 60_000;
  expect(await executor.next()).toMatchObject({ outcome: 'done', after: { confirmed: true, waited_s: 60 } });
  expect(hook.calls.map(({ path, body }) => [path, body.event])).toEqual([
    ['/hook', 'checkpoint'],
    ['/hook/status', 'checkpoint_status'],
    ['/hook/status', 'checkpoint_status'],
  ]);
  expect(hook.calls[0]!.headers['idempotency-key']).toBe('step-1');
});

test('one that is done at once is not waited for', async () => {
  await using executor = await open({});
  hook.answer = '{"done": true}';
  expect(await executor.next()).toMatchObject({ outcome: 'done', after: { confirmed: true } });
});

// Lost without it: a framework that never answers keeps a broken node in service for ever.
test('when the wait is over it goes on without, or fails where a checkpoint is required', async () => {
  await using patient = await open({});
  await using strict = await open({ required: true });
  for (const executor of [patient, strict])
    expect(await executor.next()).toMatchObject({ outcome: 'waiting' });
  nowMs += 599_000;
  expect(await patient.next()).toMatchObject({ outcome: 'waiting', afterMs: 1_000 });
  nowMs += 1_000;
  expect(await patient.next()).toMatchObject({ outcome: 'done', after: { confirmed: false } });
  expect(await strict.next()).toMatchObject({
    outcome: 'failed',
    why: expect.stringContaining('no checkpoint'),
  });
  expect(hook.calls).toHaveLength(2);
});

test('a service that is away is tried again until the wait is over; one that refuses fails at once', async () => {
  await using executor = await open({});
  hook.status = 503;
  expect(await executor.next()).toMatchObject({ outcome: 'retry', why: expect.stringContaining('503') });
  nowMs += 600_000;
  expect(await executor.next()).toMatchObject({ outcome: 'done', after: { confirmed: false } });
  hook.status = 404;
  expect(await executor.next()).toMatchObject({ outcome: 'failed' });
});
