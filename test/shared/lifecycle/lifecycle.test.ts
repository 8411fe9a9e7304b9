import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { supervise, type Task } from '#shared/lifecycle/supervise.ts';
import { aborted, repeat, sleep } from '#shared/lifecycle/wait.ts';

test('when one task ends, all are aborted, and its error is the outcome: half a program must not go on', async () => {
  const ended: string[] = [];
  const patient: Task = async (signal) => {
    await aborted(signal);
    ended.push('patient');
  };
  const failing: Task = async () => {
    throw new Error('broken');
  };
  await expect(supervise(new AbortController().signal, [patient, failing, patient])).rejects.toThrow(
    'broken',
  );
  expect(ended).toEqual(['patient', 'patient']);
});

test('an abort from outside ends all in order, without an error', async () => {
  const stop = new AbortController();
  const running = supervise(stop.signal, [aborted, (signal) => repeat(1, signal, () => stop.abort())]);
  await expect(running).resolves.toBeUndefined();
});

test('a sleep ends early with its signal, and a thousand sleeps leave no listener: a reconnect loop runs for months', async () => {
  const stop = new AbortController();
  for (let i = 0; i < 1_000; i++) await sleep(0, stop.signal);
  expect(getEventListeners(stop.signal, 'abort').length).toBe(0);
  const long = sleep(60_000, stop.signal);
  stop.abort();
  await long;
  await sleep(60_000, stop.signal);
});
