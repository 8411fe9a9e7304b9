import { describe, expect, test } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { Alertmanager } from '../../../../support/alertmanager.ts';
import { freePort } from '../../../../support/ports.ts';
import { hasAlertmanager } from '../../../../support/servers.ts';
import { until } from '../../../../support/wait.ts';
import { openReceiver } from './places.ts';
import {
  fullNotification,
  HOSTILE,
  hostileNotification,
  sampleAlert,
  sampleNotification,
} from './sample-notification.ts';
import { startScriptedServer } from './scripted-server.ts';

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const now = (): number => Date.now();
const patience = { timeoutMs: 20_000, what: 'Alertmanager says so' };

describe.skipIf(!hasAlertmanager())('the real Alertmanager', () => {
  test('lists our alerts under our labels: its routes and silences stand on them', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [`${server.url}/`] }, now);
    const firedAtMs = Date.now() - 60_000;
    const firing = [
      sampleAlert({ firedAtMs }),
      sampleAlert({ firedAtMs, gpu: '4', severity: Severity.CRITICAL }),
    ];
    const sentAt = Date.now();
    expect(await receiver.send(sampleNotification({ firing }), soon())).toEqual({ outcome: 'sent' });
    const [first, second, ...more] = await server.alerts();
    expect(more).toEqual([]);
    expect(first).toMatchObject({
      labels: {
        ...{
          alertname: 'gpu-too-hot',
          rule: 'gpu-too-hot',
          severity: 'warning',
          cluster: 'alpha',
          node: 'gpu-017',
        },
        ...{ gpu: '3', gpu_uuid: 'GPU-gpu-017-3', gpu_model: 'NVIDIA H100', pool: 'train', rack: 'r7' },
      },
      annotations: { summary: 'GPU 3 is at 91 °C', runbook_url: 'https://runbooks.example/hot' },
      startsAt: new Date(firedAtMs).toISOString(),
      generatorURL: 'https://gpufleet.example/alerts?group=1',
      status: { state: expect.stringMatching(/active|unprocessed/) },
    });
    expect(second!.labels).toMatchObject({ gpu: '4', severity: 'critical' });
    // It must live until the refreshes have failed for a while, and no longer.
    const livesMs = Date.parse(first!.endsAt) - sentAt;
    expect(receiver.refreshMs).toBe(60_000);
    expect(livesMs).toBeGreaterThan(3 * receiver.refreshMs!);
    expect(livesMs).toBeLessThan(4 * receiver.refreshMs! + 20_000);
  });

  test('has an alert once however often it is sent, and lets it go when it resolves', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [server.url, server.url] }, now);
    const firedAtMs = Date.now() - 60_000;
    const firing = [sampleAlert({ firedAtMs }), sampleAlert({ firedAtMs, gpu: '4' })];
    for (const kind of ['news', 'reminder', 'reminder'] as const)
      expect(await receiver.send(sampleNotification({ firing, kind }), soon())).toEqual({ outcome: 'sent' });
    expect(await server.alerts()).toHaveLength(2);
    const resolved = [
      sampleAlert({ firedAtMs, state: AlertState.RESOLVED, resolvedAtMs: Date.now() - 1_000 }),
    ];
    const rest = [firing[1]!];
    expect(await receiver.send(sampleNotification({ firing: rest, resolved }), soon())).toEqual({
      outcome: 'sent',
    });
    await until(async () => (await server.alerts()).length === 1, patience);
    expect((await server.alerts())[0]!.labels.gpu).toBe('4');
    // Of an agent whose clock is ahead: it is over all the same.
    const ahead = [
      sampleAlert({ firedAtMs, gpu: '4', state: AlertState.RESOLVED, resolvedAtMs: Date.now() + 3_600_000 }),
    ];
    const over = sampleNotification({ status: 'resolved', resolved: ahead });
    expect(await receiver.send(over, soon())).toEqual({ outcome: 'sent' });
    await until(async () => (await server.alerts()).length === 0, patience);
  });

  test('sees an alert that becomes critical once, not as a warning beside it', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [server.url] }, now);
    const firedAtMs = Date.now() - 60_000;
    const of = (severity: Severity) => sampleNotification({ firing: [sampleAlert({ firedAtMs, severity })] });
    await receiver.send(of(Severity.WARNING), soon());
    expect(await receiver.send(of(Severity.CRITICAL), soon())).toEqual({ outcome: 'sent' });
    await until(async () => (await server.alerts()).length === 1, patience);
    expect((await server.alerts())[0]!.labels.severity).toBe('critical');
    expect(await receiver.send(of(Severity.WARNING), soon())).toEqual({ outcome: 'sent' });
    await until(async () => (await server.alerts())[0]?.labels.severity === 'warning', patience);
  });

  test('silences our alerts by our labels', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [server.url] }, now);
    await server.silence('rack', 'r7');
    await receiver.send(sampleNotification({ firing: [sampleAlert({ firedAtMs: Date.now() })] }), soon());
    const silenced = async () => (await server.alerts())[0]?.status.state === 'suppressed';
    await until(silenced, patience);
    expect((await server.alerts())[0]!.status.silencedBy).toHaveLength(1);
  });

  test('takes every label we can have: one bad name would lose the whole request', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [server.url] }, now);
    expect(await receiver.send(hostileNotification(), soon())).toEqual({ outcome: 'sent' });
    const alerts = await server.alerts();
    expect(alerts).toHaveLength(HOSTILE.length);
    for (const { labels } of alerts)
      expect(labels).toMatchObject({ hostile_name: expect.any(String), bad_name_2: 'x', _2nd: 'y' });
    expect(alerts.some(({ labels }) => labels.hostile!.includes('"quotes"'))).toBe(true);
    expect(alerts.some(({ labels }) => labels.hostile!.includes('🔥'))).toBe(true);
  });

  test('is told of the alerts that a group has no room for: 650 must not be hidden behind 50', async () => {
    await using server = await Alertmanager.start();
    await using receiver = await openReceiver('alertmanager', { urls: [server.url] }, now);
    expect(await receiver.send(fullNotification(), soon())).toEqual({ outcome: 'sent' });
    const alerts = await server.alerts();
    expect(alerts).toHaveLength(51);
    expect(alerts.find(({ labels }) => labels.alertname === 'gpufleet-more-alerts')).toMatchObject({
      labels: { cluster: 'alpha', severity: 'warning', group: '0123456789abcdef' },
      annotations: { summary: '650 more alerts of this group fire, which are not listed here' },
    });
  });

  test('is one of several: as long as one takes it, all is well', async () => {
    await using server = await Alertmanager.start();
    const nobody = `http://127.0.0.1:${await freePort()}`;
    await using refusing = await startScriptedServer(() => ({ status: 403 }));
    await using receiver = await openReceiver(
      'alertmanager',
      { urls: [nobody, refusing.url, server.url] },
      now,
    );
    const notification = sampleNotification({ firing: [sampleAlert({ firedAtMs: Date.now() })] });
    expect(await receiver.send(notification, soon())).toEqual({ outcome: 'sent' });
    // It is sent as soon as one has taken it: the others' answers may come later.
    await until(() => refusing.seen.length === 1, patience);
    expect(await server.alerts()).toHaveLength(1);
    await server.stop();
    expect(await receiver.send(notification, soon())).toMatchObject({ outcome: 'retry' });
    await using refused = await openReceiver('alertmanager', { urls: [refusing.url] }, now);
    expect(await refused.send(notification, soon())).toMatchObject({ outcome: 'refused' });
  });
});

test('a replica that hangs delays nothing: the other one has the alert now', async () => {
  await using hanging = await startScriptedServer(() => ({ status: 200 }));
  hanging.mood = 'hang';
  await using living = await startScriptedServer(() => ({ status: 200 }));
  await using receiver = await openReceiver('alertmanager', { urls: [hanging.url, living.url] });
  // No deadline: it must not be the deadline that ends it.
  const sending = receiver.send(sampleNotification(), new AbortController().signal);
  expect(await sending).toEqual({ outcome: 'sent' });
  expect(living.seen).toHaveLength(1);
});

test('where none takes it, it is a retry as long as one may yet', async () => {
  await using refusing = await startScriptedServer(() => ({ status: 403 }));
  await using busy = await startScriptedServer(() => ({ status: 503, headers: { 'retry-after': '9' } }));
  await using both = await openReceiver('alertmanager', { urls: [refusing.url, busy.url] });
  expect(await both.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry', afterMs: 9_000 });
});
