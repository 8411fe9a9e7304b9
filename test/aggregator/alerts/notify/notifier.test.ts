import { writeFileSync } from 'node:fs';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { ReceiverKind } from '../../../../aggregator/alerts/notify/receivers/receiver-kind.ts';
import { START_MS } from '../block-of.ts';
import { alertAt, boxKinds, notifyRig, PLAIN_FILE, settled } from './notify-rig.ts';

const titles = (rig: ReturnType<typeof notifyRig>): string[] =>
  rig.mail.got.map((one) => one.notification.title);

test('alerts that come together are one notification after group_wait, and their end another', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  rig.feed.say(alertAt(rig.clock, 'n2', 1));
  await rig.pass(9_000, [notifier]);
  expect(rig.mail.got).toEqual([]);
  await rig.pass(2_000, [notifier]);
  expect(rig.mail.got.map(({ notification }) => [notification.kind, notification.firingCount])).toEqual([
    ['news', 2],
  ]);
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  rig.feed.say(alertAt(rig.clock, 'n2', 2));
  await rig.pass(290_000, [notifier]);
  expect(rig.mail.got).toHaveLength(1);
  await rig.pass(20_000, [notifier]);
  const last = rig.mail.got.at(-1)!.notification;
  expect([last.status, last.resolvedCount, last.groupKey]).toEqual([
    'resolved',
    2,
    rig.mail.got[0]!.notification.groupKey,
  ]);
  await rig.pass(5 * 3_600_000, [notifier], 60_000);
  expect(rig.mail.got).toHaveLength(2);
  // Nothing stays in the store of a group that is over.
  expect(rig.control.entries('sent').length).toBe(0);
});

test('an alert that resolved before its group was told is not told at all, as Alertmanager has it', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(5_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  await rig.pass(600_000, [notifier], 5_000);
  expect(rig.mail.got).toEqual([]);
});

test('what still fires is said again after repeat_interval, until somebody has acknowledged it', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(4 * 3_600_000 + 60_000, [notifier], 10_000);
  expect(rig.mail.got.map(({ notification }) => notification.kind)).toEqual(['news', 'reminder']);
  rig.feed.say(
    alertAt(rig.clock, 'n1', 1, {
      acknowledged: {
        $typeName: 'gpufleet.alert.v1.Acknowledgement',
        by: 'eve',
        comment: '',
        at: timestampFromMs(START_MS),
      },
    }),
  );
  await rig.pass(9 * 3_600_000, [notifier], 30_000);
  expect(rig.mail.got).toHaveLength(2);
});

test('a severity that rises is told at once, one that falls with the next of the group', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(30_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 3, { severity: Severity.CRITICAL }));
  await rig.pass(1_000, [notifier]);
  expect(rig.mail.got.at(-1)!.notification.severity).toBe('critical');
  rig.feed.say(alertAt(rig.clock, 'n1', 5));
  await rig.pass(60_000, [notifier]);
  expect(rig.mail.got).toHaveLength(2);
  await rig.pass(250_000, [notifier]);
  expect(rig.mail.got.at(-1)!.notification.severity).toBe('warning');
});

test('a silenced alert is told when its silence ends and it still fires', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  const alert = alertAt(rig.clock, 'n1', 1);
  rig.silenced.add(alert.id);
  rig.feed.say(alert);
  await rig.pass(3_600_000, [notifier], 5_000);
  expect(rig.mail.got).toEqual([]);
  rig.unsilence();
  await rig.pass(15_000, [notifier]);
  expect(titles(rig)).toEqual(['WARNING: hot on n1']);
});

test('a silence that begins within group_wait holds back what was on its way', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  const [held, told] = [alertAt(rig.clock, 'n1', 1), alertAt(rig.clock, 'n2', 1)];
  rig.feed.say(held);
  rig.feed.say(told);
  await rig.pass(9_000, [notifier]);
  rig.silenced.add(held.id);
  await rig.pass(60_000, [notifier]);
  expect(rig.mail.got.flatMap(({ notification }) => notification.firing.map(({ node }) => node))).toEqual([
    'n2',
  ]);
});

test('a cause that comes within group_wait holds back what it makes needless', async () => {
  await using rig = notifyRig(`${PLAIN_FILE}
inhibit_rules: [ { source_matchers: ['rule=down'], target_matchers: ['rule=hot'], equal: [node] } ]
`);
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(9_500, [notifier], 500);
  // In the very tick in which the other is due.
  rig.feed.say(alertAt(rig.clock, 'n1', 1, { rule: 'down', severity: Severity.CRITICAL }));
  await rig.pass(60_000, [notifier], 500);
  expect(titles(rig)).toEqual(['CRITICAL: down on n1']);
});

test('an alert that flaps says so once, is quiet, and its state is right in the end', async () => {
  await using rig = notifyRig(PLAIN_FILE.replace('group_interval: 5m', 'group_interval: 1m'));
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  for (let change = 1; change <= 40; change++) {
    rig.feed.say(alertAt(rig.clock, 'n1', change));
    await rig.pass(70_000, [notifier], 5_000);
  }
  const during = rig.mail.got.map(({ notification }) => notification);
  // Five times up, told each, and the sixth says that it flaps.
  expect(during.filter(({ flaps }) => flaps > 0)).toHaveLength(1);
  expect(during.at(-1)!.flaps).toBe(6);
  expect(during.length).toBeLessThanOrEqual(11);
  // The last change resolved it, and it stays so.
  await rig.pass(31 * 60_000, [notifier], 5_000);
  expect(rig.mail.got).toHaveLength(during.length + 1);
  expect(rig.mail.got.at(-1)!.notification.status).toBe('resolved');
});

test('a receiver that answers later gets the same notification with the same id, once', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  const ids = new Set<string>();
  rig.mail.answer = (notification) => {
    ids.add(notification.id);
    return rig.clock.ms < START_MS + 3_600_000 ? { outcome: 'retry', why: '503' } : { outcome: 'sent' };
  };
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(2 * 3_600_000, [notifier], 5_000);
  expect([ids.size, rig.mail.got.length]).toEqual([1, 1]);
  expect(rig.mail.tries).toBeLessThan(60);
});

test('what the other side asks for is waited for', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  rig.mail.answer = () => ({ outcome: 'retry', why: '429', afterMs: 600_000 });
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(590_000, [notifier], 5_000);
  expect(rig.mail.tries).toBe(1);
});

test('what is refused is a dead letter, over a restart too, and can be sent again', async () => {
  await using rig = notifyRig();
  {
    await using notifier = await rig.open();
    rig.mail.answer = () => ({ outcome: 'refused', why: 'no such channel' });
    await rig.pass(1_000, [notifier]);
    rig.feed.say(alertAt(rig.clock, 'n1', 1));
    await rig.pass(20_000, [notifier]);
    expect(rig.dead).toEqual(['people:box:0: no such channel']);
  }
  await using notifier = await rig.open();
  const [dead] = notifier.list();
  expect([dead?.state, dead?.why, dead?.receiver, dead?.kind]).toEqual([
    'dead',
    'no such channel',
    'people',
    'box',
  ]);
  rig.mail.answer = () => ({ outcome: 'sent' });
  await expect(notifier.resend(['nothing'], 'eve')).rejects.toThrow('no such dead letter');
  // Asked for twice at once: it is sent once.
  expect(await Promise.all([notifier.resend([dead!.id], 'eve'), notifier.resend([], 'bob')])).toEqual([1, 0]);
  expect(rig.mail.got.map(({ notification }) => notification.id)).toEqual([dead!.id]);
  expect(notifier.list().filter(({ state }) => state === 'dead')).toEqual([]);
});

test('a notification is given up after a day', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  rig.mail.answer = () => ({ outcome: 'retry', why: 'no route to host' });
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(23 * 3_600_000, [notifier], 60_000);
  expect(rig.dead).toEqual([]);
  await rig.pass(2 * 3_600_000, [notifier], 60_000);
  expect(rig.dead).toEqual(['people:box:0: given up after 24 h: no route to host']);
});

test('a file that is bad changes nothing, and says what is wrong', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  writeFileSync(`${rig.folder}/notify.yaml`, 'route: { receiver: nobody }\nreceivers: []\n');
  expect(await notifier.reload()).toEqual({
    ok: false,
    why: expect.stringContaining('notify.yaml:1:20: route.receiver'),
  });
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [notifier]);
  expect(rig.mail.got).toHaveLength(1);
});

test('a good file counts at once, and nobody is told again what they know', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [notifier]);
  writeFileSync(`${rig.folder}/notify.yaml`, PLAIN_FILE.replace('group_wait: 10s', 'group_wait: 1s'));
  expect(await notifier.reload()).toEqual({ ok: true });
  await rig.pass(600_000, [notifier], 5_000);
  expect(rig.mail.got).toHaveLength(1);
});

test('a file whose last receiver cannot be opened leaves none of the others open, and changes nothing', async () => {
  await using rig = notifyRig();
  const { box } = boxKinds(rig.mail, rig.clock);
  let [opened, closed] = [0, 0];
  const kinds: Record<string, ReceiverKind> = {
    box: {
      ...box!,
      async open(...args) {
        const receiver = await box!.open(...args);
        opened++;
        return { ...receiver, [Symbol.asyncDispose]: async () => void closed++ };
      },
    },
    bad: {
      ...box!,
      open: async () => {
        throw new Error('no such certificate');
      },
    },
  };
  await using notifier = await rig.open({ kinds });
  writeFileSync(
    `${rig.folder}/notify.yaml`,
    PLAIN_FILE.replace('box: [ {} ]', 'box: [ {}, {} ], bad: [ {} ]'),
  );
  expect(await notifier.reload()).toEqual({ ok: false, why: 'no such certificate' });
  expect([opened, closed]).toEqual([3, 2]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [notifier]);
  expect(rig.mail.got).toHaveLength(1);
  // Two reloads at once: each closes what the one before it opened.
  writeFileSync(`${rig.folder}/notify.yaml`, PLAIN_FILE);
  expect(await Promise.all([notifier.reload(), notifier.reload()])).toEqual([{ ok: true }, { ok: true }]);
  expect([opened, closed]).toEqual([5, 4]);
});

test('a dead letter whose receiver is not in the file any more says so when it is to be sent again', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  rig.mail.answer = () => ({ outcome: 'refused', why: 'no such channel' });
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [notifier]);
  const [dead] = notifier.list();
  writeFileSync(`${rig.folder}/notify.yaml`, PLAIN_FILE.replaceAll('people', 'others'));
  expect(await notifier.reload()).toEqual({ ok: true });
  await expect(notifier.resend([dead!.id], 'eve')).rejects.toThrow('has no people:box:0 any more');
  expect(await notifier.resend([], 'eve')).toBe(0);
  expect(notifier.list().some(({ id, state }) => id === dead!.id && state === 'dead')).toBe(true);
});

test('a clock that was days ahead and was set back keeps no news waiting', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open();
  rig.clock.ms += 2 * 24 * 3_600_000;
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [notifier]);
  expect(rig.mail.got).toHaveLength(1);
  rig.clock.ms -= 2 * 24 * 3_600_000;
  rig.feed.say(alertAt(rig.clock, 'n2', 1));
  await rig.pass(320_000, [notifier], 5_000);
  expect(rig.mail.got).toHaveLength(2);
});

test('without a file nothing happens', async () => {
  await using rig = notifyRig();
  await using notifier = await rig.open({ file: undefined });
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  notifier.tick();
  await settled();
  expect([notifier.list(), rig.control.docs.size]).toEqual([[], 0]);
});
