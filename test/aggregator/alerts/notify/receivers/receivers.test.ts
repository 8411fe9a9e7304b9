import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MAX_NOTIFIED_ALERTS } from '../../../../../aggregator/alerts/notify/notification.ts';
import { RECEIVER_KINDS } from '../../../../../aggregator/alerts/notify/receivers/registry.ts';
import { until } from '../../../../support/wait.ts';
import { openReceiver, PLACES } from './places.ts';
import { fullNotification, hostileNotification, sampleNotification } from './sample-notification.ts';

const LONG = 20_000;
const soon = (ms = LONG): AbortSignal => AbortSignal.timeout(ms);

test('every kind of the registry is in this suite: a new kind keeps the same promises', async () => {
  const kinds = new Set<string>();
  for (const [, start] of PLACES) {
    await using place = await start();
    kinds.add(place.kind);
  }
  expect([...kinds].sort()).toEqual(Object.keys(RECEIVER_KINDS).sort());
});

describe.each(PLACES)('%s keeps the promises of a receiver', (_, start) => {
  test('sends: one notification is one message there', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    expect(receiver.kind).toBe(place.kind);
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(await receiver.send(sampleNotification({ id: '2', status: 'resolved' }), soon())).toEqual({
      outcome: 'sent',
    });
    expect(place.taken()).toBe(place.kind === 'alertmanager' ? 1 : 2);
  });

  test('takes the largest notification there is: a storm must not be what cannot be said', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    const notification = fullNotification();
    expect(notification.firing).toHaveLength(MAX_NOTIFIED_ALERTS);
    expect(await receiver.send(notification, soon())).toEqual({ outcome: 'sent' });
    expect(place.taken()).toBe(1);
  });

  test('takes labels and texts of any content: a strange node name must not stop an alert', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    expect(await receiver.send(hostileNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(place.taken()).toBe(1);
  });

  test('gives up at the deadline where nothing comes back, and can be tried again', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    place.be('hang');
    const deadline = new AbortController();
    const sending = receiver.send(sampleNotification(), deadline.signal);
    await until(() => place.reached() === 1, { timeoutMs: LONG, what: 'the try reaches the place' });
    deadline.abort(new DOMException('late', 'TimeoutError'));
    expect(await sending).toEqual({ outcome: 'retry', why: 'no answer within the time allowed' });
    place.be('take');
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(place.taken()).toBe(1);
  });

  test('does not begin after its deadline', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    expect(await receiver.send(sampleNotification(), AbortSignal.abort())).toMatchObject({
      outcome: 'retry',
    });
    expect(place.reached()).toBe(0);
  });

  test('says refused where it will never be taken, with the reason', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    place.be('refuse');
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome: 'refused',
      why: expect.stringMatching(/forbidden|not from you/),
    });
  });

  test('says retry where the place is busy or broken, and when', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    place.be('busy');
    const busy = await receiver.send(sampleNotification(), soon());
    if (place.kind === 'email')
      expect(busy).toMatchObject({ outcome: 'retry', why: expect.stringContaining('451') });
    else expect(busy).toEqual({ outcome: 'retry', why: 'it answered 429: slow down', afterMs: 17_000 });
    place.be('broken');
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry' });
  });

  test('says retry where nobody listens', async () => {
    await using place = await start();
    await using receiver = await openReceiver(place.kind, place.settings);
    await place.stop();
    const delivery = await receiver.send(sampleNotification(), soon());
    expect(delivery).toEqual({ outcome: 'retry', why: expect.stringContaining('ECONNREFUSED') });
  });

  test('can be disposed of while it sends: a stop does not wait for a dead server', async () => {
    await using place = await start();
    const receiver = await openReceiver(place.kind, place.settings);
    place.be('hang');
    const sending = receiver.send(sampleNotification(), soon());
    await until(() => place.reached() === 1, { timeoutMs: LONG, what: 'the try reaches the place' });
    await receiver[Symbol.asyncDispose]();
    expect(await sending).toEqual({ outcome: 'retry', why: 'the receiver is being closed' });
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry' });
    expect(place.reached()).toBe(1);
  });

  test('a secret that is gone is a retry that names the file, and its return is seen: rotations need no restart', async () => {
    await using place = await start();
    const [file] = place.secrets;
    const secret = readFileSync(file!, 'utf8');
    rmSync(file!);
    await using receiver = await openReceiver(place.kind, place.settings);
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome: 'retry',
      why: expect.stringContaining(`Cannot read secret file ${file}`),
    });
    writeFileSync(file!, secret);
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    writeFileSync(file!, 'two\nlines');
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry' });
    expect(place.reached()).toBe(1);
  });
});
