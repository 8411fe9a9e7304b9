import { expect, test } from 'vitest';
import { guarded } from '../../../../../aggregator/alerts/notify/receivers/guarded-receiver.ts';
import { sampleNotification } from './sample-notification.ts';

const never = (): Promise<never> => new Promise(() => {});

test('a way that throws is a retry with the reason: no receiver can end the dispatcher', async () => {
  const broken = guarded('broken', {
    send() {
      throw new Error('a fault of ours');
    },
  });
  expect(await broken.send(sampleNotification(), new AbortController().signal)).toEqual({
    outcome: 'retry',
    why: 'a fault of ours',
  });
});

test('a way that ignores its deadline does not keep anybody waiting', async () => {
  const deaf = guarded('deaf', { send: never });
  const deadline = new AbortController();
  const sending = deaf.send(sampleNotification(), deadline.signal);
  deadline.abort();
  expect(await sending).toEqual({ outcome: 'retry', why: 'no answer within the time allowed' });
});

test('disposal ends what is under way, then closes, once', async () => {
  const said: string[] = [];
  const slow = guarded('slow', {
    send: never,
    close: async () => void said.push('closed'),
  });
  const sending = slow.send(sampleNotification(), new AbortController().signal).then(() => said.push('sent'));
  await slow[Symbol.asyncDispose]();
  await sending;
  expect(said).toHaveLength(2);
});

test('says how often it must hear, where its way forgets', () => {
  expect(guarded('a', { send: never, refreshMs: 60_000 }).refreshMs).toBe(60_000);
  expect('refreshMs' in guarded('b', { send: never })).toBe(false);
});
