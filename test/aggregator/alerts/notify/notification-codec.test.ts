import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { DeadNotifications } from '../../../../aggregator/alerts/notify/dead-notifications.ts';
import type { Notification } from '../../../../aggregator/alerts/notify/notification.ts';
import {
  packNotification,
  unpackNotification,
} from '../../../../aggregator/alerts/notify/notification-codec.ts';
import { seededRandom } from '../../../support/random.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt, MemoryShelf, notifyRig } from './notify-rig.ts';

const clock = new ManualClock();
const random = seededRandom(3);
/** Text that does not compress. */
const noise = (length: number): string =>
  Array.from({ length }, () => String.fromCodePoint(0x100 + Math.floor(random() * 0x2000))).join('');

function notificationOf(id: string, summary: string, of = (): string => summary): Notification {
  const firing = Array.from({ length: 50 }, (_, index) => alertAt(clock, `n${index}`, 1, { summary: of() }));
  return {
    ...{ id, groupKey: 'g', groupLabels: { rule: 'hot' }, cluster: 'east', status: 'firing' },
    ...{ severity: 'critical', kind: 'news', firing, resolved: [], firingCount: 50, resolvedCount: 0 },
    ...{ flaps: 0, title: 'title', text: 'text', link: '', atMs: clock.ms },
  };
}

test('a notification is read back as it was written', () => {
  const notification = notificationOf('1', 'plain');
  expect(unpackNotification(packNotification(notification))).toEqual(notification);
  expect(unpackNotification('AAAA')).toBeUndefined();
});

test('one that is too large for a document loses alerts and not its counts', () => {
  const packed = packNotification(notificationOf('1', '', () => noise(900)));
  expect(packed.length).toBeLessThanOrEqual(28 * 1024);
  const read = unpackNotification(packed)!;
  expect(read.firing.length).toBeLessThan(50);
  expect(read.firingCount).toBe(50);
});

test('dead letters are kept to a number, the newest, also on disk', async () => {
  const shelf = new MemoryShelf();
  const open = (): Promise<DeadNotifications> =>
    DeadNotifications.open({ shelf, clock, registry: createRegistry(), limit: 3 });
  const dead = await open();
  for (const id of ['1', '2', '3', '4', '5'])
    await dead.add({ notification: notificationOf(id, 'x'), endpoint: 'a:box:0', why: 'no', attempts: 1 });
  const ids = (letters: DeadNotifications): string[] =>
    letters.list().map(({ notification }) => notification.id);
  expect(ids(dead)).toEqual(['5', '4', '3']);
  const again = await open();
  expect(ids(again)).toEqual(['5', '4', '3']);
  await again.remove('4');
  expect(ids(await open())).toEqual(['5', '3']);
});

test('title and text stay within what receivers take, whatever alerts say', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  for (let node = 0; node < 300; node++)
    rig.feed.say(alertAt(rig.clock, `${noise(100)}${node}`, 1, { summary: noise(1000) }));
  await rig.pass(20_000, [notifier]);
  const { title, text, firing, firingCount } = rig.mail.got[0]!.notification;
  expect([title.length <= 200, text.length <= 4_000, firing.length, firingCount]).toEqual([
    true,
    true,
    50,
    300,
  ]);
  expect(rig.control.largest).toBeLessThan(64 * 1024);
});
