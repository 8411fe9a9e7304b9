import { describe, expect, test } from 'vitest';
import type { Notification } from '../../../../../aggregator/alerts/notify/notification.ts';
import { tempDir } from '../../../../support/temp.ts';
import { pagerDutyAnswer, pagerDutyFaults } from './fake-pagerduty.ts';
import { openReceiver, ROUTING_KEY, secretIn } from './places.ts';
import {
  fullNotification,
  hostileNotification,
  sampleAlert,
  sampleNotification,
} from './sample-notification.ts';
import { startScriptedServer } from './scripted-server.ts';

const soon = (): AbortSignal => AbortSignal.timeout(20_000);

/** What arrives at PagerDuty, and what becomes of it. */
async function enqueued(notification: Notification, key = ROUTING_KEY) {
  await using dir = tempDir('pagerduty');
  await using server = await startScriptedServer(pagerDutyAnswer);
  const settings = { routing_key_file: secretIn(dir, 'key', key), url: `${server.url}/v2/enqueue` };
  await using receiver = await openReceiver('pagerduty', settings);
  const delivery = await receiver.send(notification, soon());
  const { body } = server.seen[0]!;
  return { delivery, body, event: JSON.parse(body) };
}

describe('an event for PagerDuty', () => {
  test('opens one incident for each group and closes it: nobody is paged for what is over', async () => {
    const opened = await enqueued(sampleNotification({ severity: 'critical' }));
    expect(opened.delivery).toEqual({ outcome: 'sent' });
    expect(opened.event).toMatchObject({
      routing_key: ROUTING_KEY,
      event_action: 'trigger',
      dedup_key: '0123456789abcdef',
      client: 'gpufleet',
      client_url: 'https://gpufleet.example/alerts?group=1',
      links: [
        { href: 'https://gpufleet.example/alerts?group=1', text: 'gpufleet' },
        { href: 'https://runbooks.example/hot', text: 'runbook: gpu-too-hot' },
      ],
      payload: {
        ...{ summary: '1 GPU is too hot in alpha', source: 'gpu-017', severity: 'critical' },
        ...{
          timestamp: '2026-01-02T03:04:05.000Z',
          component: 'GPU 3',
          class: 'gpu-too-hot',
          group: 'alpha',
        },
        custom_details: {
          firing_count: 1,
          firing: [{ where: 'gpu-017 GPU 3', summary: 'GPU 3 is at 91 °C', labels: { rack: 'r7' } }],
        },
      },
    });
    const closed = await enqueued(sampleNotification({ status: 'resolved' }));
    expect(closed.delivery).toEqual({ outcome: 'sent' });
    expect(closed.event).toMatchObject({ event_action: 'resolve', dedup_key: opened.event.dedup_key });
  });

  test.each(['info', 'warning', 'critical'] as const)('knows the severity %s', async (severity) => {
    const { delivery, event } = await enqueued(sampleNotification({ severity }));
    expect(delivery).toEqual({ outcome: 'sent' });
    expect(event.payload.severity).toBe(severity);
  });

  test('stays below 512 KB however long the labels are, worst alerts first: a larger one is thrown away', async () => {
    const labels = Object.fromEntries(
      Array.from({ length: 16 }, (_, n) => [`label_${n}`, '<'.repeat(4_096)]),
    );
    const firing = Array.from({ length: 50 }, (_, n) => sampleAlert({ node: `gpu-${n}`, labels }));
    const { delivery, body, event } = await enqueued(sampleNotification({ firing }));
    expect(delivery).toEqual({ outcome: 'sent' });
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(512_000);
    const { custom_details } = event.payload;
    expect(custom_details.firing.length).toBeGreaterThan(10);
    expect(custom_details.firing[0].where).toBe('gpu-0 GPU 3');
    expect(custom_details.firing_count).toBe(50);
  });

  test('is right for the largest and for the strangest notification', async () => {
    expect((await enqueued(fullNotification())).delivery).toEqual({ outcome: 'sent' });
    const { delivery, body } = await enqueued(hostileNotification());
    expect(delivery).toEqual({ outcome: 'sent' });
    expect(body).not.toContain('javascript:');
  });

  test('with a wrong key is refused with the reason, and the key is in no log', async () => {
    const { delivery } = await enqueued(sampleNotification(), 'a-short-secret-key');
    expect(delivery).toMatchObject({ outcome: 'refused', why: expect.stringContaining('routing_key') });
    expect(JSON.stringify(delivery)).not.toContain('a-short-secret-key');
  });
});

test('the fake refuses what PagerDuty refuses', () => {
  expect(
    pagerDutyFaults(JSON.stringify({ routing_key: 'x', event_action: 'open', extra: 1, payload: {} })).length,
  ).toBe(9);
});
