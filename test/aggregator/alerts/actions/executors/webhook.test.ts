import { createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Executor } from '../../../../../aggregator/alerts/actions/executor.ts';
import { webhookKind } from '../../../../../aggregator/alerts/actions/executors/webhook.ts';
import { freePort } from '../../../../support/ports.ts';
import { tempDir } from '../../../../support/temp.ts';
import { contextOf, depsOf, inTime, TARGET } from './fixtures.ts';
import { HookServer } from './hook-server.ts';

let hook: HookServer;
beforeEach(async () => {
  hook = await HookServer.start();
});
afterEach(() => hook[Symbol.asyncDispose]());

async function open(settings: object): Promise<Executor> {
  return await webhookKind.open(v.parse(webhookKind.schema, { url: hook.url, ...settings }), depsOf());
}

// Lost without it: a receiver that checks who asks for a drain refuses ours, or does one action twice.
test('it is signed, says what is to be done and why, and has one key for all tries of a step', async () => {
  await using dir = tempDir('hook');
  const secret_file = join(dir.path, 'secret');
  await writeFile(secret_file, 's3cret-of-the-hook\n');
  await using executor = await open({ secret_file, undo: true });
  const outcome = await executor.execute(TARGET, contextOf(), inTime());
  expect(outcome).toEqual({ outcome: 'done', before: {}, after: { status: 200, answer: '{}' }, undo: {} });
  await executor.execute(TARGET, contextOf(), inTime());
  await executor.undo(TARGET, contextOf(), {}, inTime());
  expect(hook.calls.map(({ headers }) => headers['idempotency-key'])).toEqual([
    'step-1',
    'step-1',
    'step-1-undo',
  ]);
  const [{ headers, text, body }] = hook.calls as [(typeof hook.calls)[0]];
  expect(body).toEqual({
    version: 1,
    event: 'action',
    step_id: 'step-1',
    action_id: 'action-1',
    policy: 'drain-critical',
    cluster: 'c',
    node: 'node-a',
    gpu: '3',
    gpu_uuid: 'GPU-1f00',
    alert: { id: 'alert-1', rule: 'gpu-critical', severity: 'critical' },
    reason: 'GPU 3 fell off the bus (Xid 79)',
  });
  const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['x-gpufleet-signature']))!;
  expect(v1).toBe(createHmac('sha256', 's3cret-of-the-hook').update(`${t}.${text}`).digest('hex'));
});

test.each([
  [204, 'done'],
  [302, 'failed'],
  [400, 'failed'],
  [401, 'failed'],
  [429, 'retry'],
  [500, 'retry'],
  [503, 'retry'],
])('an answer of %i is a step that has %s', async (status, outcome) => {
  hook.status = status;
  hook.answer = status === 204 ? '' : 'no room';
  await using executor = await open({});
  expect(await executor.execute(TARGET, contextOf(), inTime())).toMatchObject({ outcome });
});

test('nobody there, no answer in time, and a secret that is not there are tried again', async () => {
  hook.isSilent = true;
  await using executor = await open({ timeout: '100ms' });
  expect(await executor.execute(TARGET, contextOf(), inTime())).toMatchObject({ outcome: 'retry' });
  await using nobody = await open({ url: `http://127.0.0.1:${await freePort()}/` });
  expect(await nobody.execute(TARGET, contextOf(), inTime())).toMatchObject({ outcome: 'retry' });
  await using unsigned = await open({ secret_file: '/nonexistent/secret' });
  expect(await unsigned.execute(TARGET, contextOf(), inTime())).toMatchObject({
    outcome: 'retry',
    why: expect.stringContaining('/nonexistent/secret'),
  });
  // Not sent without the signature that was asked for.
  expect(hook.calls).toHaveLength(1);
});
