import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { expect, test } from 'vitest';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { alertSubject, encodeAlert } from '../../../../aggregator/alerts/bus/alert-message.ts';
import type { StreamSettings } from '../../../../aggregator/alerts/bus/nats-link.ts';
import type { ControlStore } from '../../../../aggregator/alerts/control/control-store.ts';
import { openControlStore } from '../../../../aggregator/alerts/control/open-control-store.ts';
import type { Notifier } from '../../../../aggregator/alerts/notify/notifier.ts';
import { StreamFeed } from '../../../../aggregator/alerts/notify/stream-feed.ts';
import { type NatsServer, startNats } from '../../../support/nats-server.ts';
import { until } from '../../../support/wait.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt, ManualFeed, MemoryShelf, type NotifyRig, notifyRig } from './notify-rig.ts';

const STREAM: StreamSettings = {
  ...{ name: 'GPUFLEET_ALERTS', replicas: 1, maxBytes: 64 * 1024 ** 2, maxAgeMs: 0, maxPerSubject: 64 },
};
const WAIT = { timeoutMs: 30_000 };

function openFeed(nats: NatsServer, maxAlerts?: number): StreamFeed {
  return new StreamFeed({
    nats: { servers: [nats.url], logger: silentLogger, random: Math.random },
    stream: STREAM,
    registry: createRegistry(),
    ...(maxAlerts !== undefined && { maxAlerts }),
  });
}

async function publish(nats: NatsServer, alerts: readonly Alert[]): Promise<void> {
  const connection = await connect({ servers: [nats.url] });
  const js = jetstream(connection);
  for (const alert of alerts) await js.publish(alertSubject(alert), encodeAlert(alert));
  await connection.close();
}

const openControl = (nats: NatsServer): Promise<ControlStore> =>
  openControlStore({
    ...{ nats: { servers: [nats.url] }, local: new MemoryShelf(), clock: systemClock },
    ...{ logger: silentLogger, registry: createRegistry() },
  });

/** The notifiers' time runs a second at a time, NATS' as it is. */
async function passUntil(
  rig: NotifyRig,
  notifiers: readonly Notifier[],
  done: () => boolean,
  what: string,
): Promise<void> {
  await until(
    async () => {
      rig.clock.ms += 1_000;
      for (const notifier of notifiers) notifier.tick();
      await sleep(5);
      return done();
    },
    { ...WAIT, what },
  );
}

test('a feed has the last state of each alert, follows, and goes on after NATS was away', async () => {
  await using nats = await startNats();
  const clock = new ManualClock();
  await using first = openFeed(nats);
  await until(async () => first.loaded, { ...WAIT, what: 'the feed is loaded' });
  await publish(nats, [alertAt(clock, 'n1', 1), alertAt(clock, 'n1', 2), alertAt(clock, 'n2', 1)]);
  await using feed = openFeed(nats);
  const heard: string[] = [];
  using _heard = feed.subscribe((alert) => heard.push(`${alert.node} ${alert.transition}`));
  await until(async () => feed.loaded, { ...WAIT, what: 'the feed is loaded' });
  expect([...feed.alerts()].map((alert) => `${alert.node} ${alert.transition}`).sort()).toEqual([
    'n1 2',
    'n2 1',
  ]);
  await nats.restart();
  await until(async () => !feed.loaded || heard.length > 2, { ...WAIT, what: 'the feed notices' });
  await publish(nats, [alertAt(clock, 'n3', 1)]);
  await until(async () => heard.includes('n3 1'), { ...WAIT, what: 'the feed goes on' });
  await until(async () => feed.loaded, { ...WAIT, what: 'the feed is loaded again' });
  // What it had is not read again.
  expect(heard.filter((text) => text === 'n1 2')).toHaveLength(1);
});

test('a feed keeps so many alerts and lets resolved ones go first', async () => {
  await using nats = await startNats();
  const clock = new ManualClock();
  await using feed = openFeed(nats, 3);
  await until(async () => feed.loaded, { ...WAIT, what: 'the feed is loaded' });
  await publish(nats, [
    ...[alertAt(clock, 'n1', 1), alertAt(clock, 'n2', 2), alertAt(clock, 'n3', 1)],
    ...[alertAt(clock, 'n4', 1), alertAt(clock, 'n5', 1), alertAt(clock, 'n1', 2)],
  ]);
  const nodes = (): string[] => [...feed.alerts()].map((alert) => `${alert.node} ${alert.state}`).sort();
  await until(async () => nodes().includes('n1 3'), { ...WAIT, what: 'the last one is there' });
  expect(nodes()).toEqual(['n1 3', 'n3 2', 'n4 2']);
});

test('over a real NATS one of two aggregators notifies, and the other takes over what it told', async () => {
  await using nats = await startNats();
  await using rig = notifyRig();
  await using controlA = await openControl(nats);
  await using controlB = await openControl(nats);
  await using feedA = openFeed(nats);
  await using feedB = openFeed(nats);
  const own = { feed: new ManualFeed() };
  await using a = await rig.open({ ...own, control: controlA, clusterFeed: feedA, shard: 'a' });
  await using b = await rig.open({
    ...own,
    control: controlB,
    clusterFeed: feedB,
    shard: 'b',
    shelf: new MemoryShelf(),
  });
  await until(async () => feedA.loaded && feedB.loaded, { ...WAIT, what: 'the feeds are loaded' });
  await publish(nats, [alertAt(rig.clock, 'n1', 1)]);
  await passUntil(rig, [a, b], () => rig.mail.got.length === 1, 'it is told');
  await publish(nats, [alertAt(rig.clock, 'n2', 1, { rule: 'cold' })]);
  const holder = (controlB.get('lease/notifier')!.value as { owner: string }).owner;
  const left = holder.startsWith('a') ? b : a;
  // Whoever leads is gone without a word: the other waits for the lease to end.
  await passUntil(rig, [left], () => rig.mail.got.length === 2, 'the other one tells');
  await publish(nats, [alertAt(rig.clock, 'n1', 2), alertAt(rig.clock, 'n2', 2, { rule: 'cold' })]);
  await passUntil(rig, [left], () => rig.mail.got.length === 4, 'the ends are told');
  expect(rig.mail.got.map(({ notification }) => notification.status).sort()).toEqual([
    ...['firing', 'firing', 'resolved', 'resolved'],
  ]);
  expect(new Set(rig.mail.got.map(({ notification }) => notification.id)).size).toBe(4);
  await until(async () => controlA.entries('sent/').length === 0, { ...WAIT, what: 'the books are empty' });
});
