import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { AlertListener } from '../../../../aggregator/alerts/alert-change.ts';
import { LocalFeed } from '../../../../aggregator/alerts/notify/local-feed.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt, boxKinds, type NotifyRig, notifyRig, PLAIN_FILE, settled } from './notify-rig.ts';

const told = (rig: NotifyRig): string[] =>
  rig.mail.got.map(
    ({ notification: { kind, status, firingCount, resolvedCount } }) =>
      `${kind} ${status} ${firingCount}/${resolvedCount}`,
  );

test('an alert that becomes critical reaches those whom that concerns, and ends for the others', async () => {
  await using rig = notifyRig(`
route: { receiver: all, routes: [ { receiver: pager, matchers: ['severity=critical'] } ] }
receivers: [ { name: all, box: [ {} ] }, { name: pager, box: [ {} ] } ]
`);
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(30_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 3, { severity: Severity.CRITICAL }));
  await rig.pass(320_000, [notifier], 2_000);
  expect(
    notifier
      .list()
      .map(({ receiver, firing, resolved }) => [receiver, firing, resolved])
      .reverse(),
  ).toEqual([
    ['all', 1, 0],
    ['pager', 1, 0],
    ['all', 0, 1],
  ]);
});

test('a receiver that wants no ends gets none, and is told anew when it fires anew', async () => {
  await using rig = notifyRig(PLAIN_FILE.replace('{}', '{ send_resolved: false }'));
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  for (const transition of [1, 2, 3]) {
    rig.feed.say(alertAt(rig.clock, 'n1', transition));
    await rig.pass(700_000, [notifier], 5_000);
  }
  expect(told(rig)).toEqual(['news firing 1/0', 'news firing 1/0']);
});

test('a route that is silent at night tells in the morning what still fires, and what ended of what it told', async () => {
  await using rig = notifyRig(`
time_intervals: [ { name: later, time_intervals: [ { times: [ { start_time: '00:00', end_time: '24:00' } ], years: ['1990'] } ] } ]
route: { receiver: people, routes: [ { receiver: people, active_time_intervals: [later] } ] }
receivers: [ { name: people, box: [ {} ] } ]
`);
  await using notifier = await rig.open();
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(3_600_000, [notifier], 10_000);
  expect(told(rig)).toEqual([]);
  const path = `${rig.folder}/notify.yaml`;
  writeFileSync(path, readFileSync(path, 'utf8').replace(`'1990'`, `'1990:2100'`));
  expect(await notifier.reload()).toEqual({ ok: true });
  await rig.pass(60_000, [notifier], 5_000);
  expect(told(rig)).toEqual(['news firing 1/0']);
});

test('no more than rate_limit go out, and what waits is told together', async () => {
  await using rig = notifyRig(
    PLAIN_FILE.replace('{}', '{ rate_limit: 2/10m }').replace('[cluster, rule]', '[node]'),
  );
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  for (let node = 0; node < 8; node++) rig.feed.say(alertAt(rig.clock, `n${node}`, 1));
  await rig.pass(60_000, [notifier]);
  expect(rig.mail.got).toHaveLength(2);
  for (let node = 8; node < 30; node++) rig.feed.say(alertAt(rig.clock, `n${node}`, 1));
  await rig.pass(600_000, [notifier], 5_000);
  expect(told(rig).slice(2)).toEqual(['storm firing 28/0']);
});

test('an incident that a storm opened is closed, under its own key, when the last of its alerts has ended', async () => {
  await using rig = notifyRig(PLAIN_FILE.replace('[cluster, rule]', '[node]'));
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  for (let node = 0; node < 12; node++) rig.feed.say(alertAt(rig.clock, `n${node}`, 1));
  await rig.pass(1_000_000, [notifier], 5_000);
  const storm = rig.mail.got[0]!.notification;
  expect(told(rig)).toEqual(['storm firing 12/0']);
  // One after the other, so that each is told for itself.
  for (let node = 0; node < 12; node++) {
    rig.feed.say(alertAt(rig.clock, `n${node}`, 2));
    await rig.pass(700_000, [notifier], 5_000);
  }
  const last = rig.mail.got.at(-1)!.notification;
  expect([last.groupKey, last.status, last.kind]).toEqual([storm.groupKey, 'resolved', 'storm']);
  expect(rig.mail.got).toHaveLength(14);
  expect(rig.control.entries('sent')).toEqual([]);
});

test('what ended while nobody ran is told, also of an alert that nobody knows any more', async () => {
  await using rig = notifyRig();
  {
    await using notifier = await rig.open();
    await rig.pass(1_000, [notifier]);
    rig.feed.say(alertAt(rig.clock, 'n1', 1));
    rig.feed.say(alertAt(rig.clock, 'n2', 1, { rule: 'cold' }));
    await rig.pass(30_000, [notifier]);
  }
  rig.feed.states.set(alertAt(rig.clock, 'n1', 2).id, alertAt(rig.clock, 'n1', 2));
  rig.feed.states.delete(alertAt(rig.clock, 'n2', 1, { rule: 'cold' }).id);
  await using notifier = await rig.open();
  await rig.pass(290_000, [notifier], 2_000);
  expect(told(rig).slice(2)).toEqual(['news resolved 0/1']);
  await rig.pass(60_000, [notifier], 2_000);
  expect(told(rig).slice(2)).toEqual(['news resolved 0/1', 'news resolved 0/1']);
});

test('that an alert flaps is remembered over a restart: nobody is told of it a hundred times', async () => {
  await using rig = notifyRig(PLAIN_FILE.replace('group_interval: 5m', 'group_interval: 1m'));
  {
    await using notifier = await rig.open();
    await rig.pass(1_000, [notifier]);
    for (let change = 1; change <= 20; change++) {
      rig.feed.say(alertAt(rig.clock, 'n1', change));
      await rig.pass(70_000, [notifier], 5_000);
    }
  }
  const before = rig.mail.got.length;
  await using notifier = await rig.open();
  for (let change = 21; change <= 31; change++) {
    await rig.pass(70_000, [notifier], 5_000);
    rig.feed.say(alertAt(rig.clock, 'n1', change));
  }
  await rig.pass(25 * 60_000, [notifier], 5_000);
  expect(rig.mail.got.length).toBe(before);
  await rig.pass(10 * 60_000, [notifier], 5_000);
  expect(rig.mail.got.at(-1)!.notification.status).toBe('firing');
});

test('a try that hangs is broken off when the lease is lost, long before the next one may begin', async () => {
  await using rig = notifyRig(PLAIN_FILE.replace('{}', '{ timeout: 5m }'));
  rig.control.state = 'shared';
  let broken = 0;
  const kinds = boxKinds(rig.mail, rig.clock);
  const hanging = {
    box: {
      ...kinds.box!,
      open: async () => ({
        kind: 'box',
        send: (_: unknown, signal: AbortSignal) =>
          new Promise<{ outcome: 'retry'; why: string }>((resolve) => {
            signal.addEventListener('abort', () => {
              broken++;
              resolve({ outcome: 'retry', why: 'aborted' });
            });
          }),
        async [Symbol.asyncDispose]() {},
      }),
    },
  };
  await using notifier = await rig.open({ clusterFeed: rig.feed, kinds: hanging });
  await rig.pass(5_000, [notifier]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(12_000, [notifier]);
  expect([broken, notifier.list().length]).toEqual([0, 1]);
  const lease = rig.control.get('lease/notifier')!;
  await rig.control.put('lease/notifier', { owner: 'other', count: 1 }, lease.revision);
  notifier.tick();
  await settled();
  expect(broken).toBe(1);
});

test('the feed of one aggregator has what fires there and what was acknowledged, and nothing that is pending', () => {
  const clock = new ManualClock();
  const pending = alertAt(clock, 'n1', 1, { state: AlertState.PENDING });
  const firing = alertAt(clock, 'n2', 1);
  let listener: AlertListener = () => {};
  const feed = new LocalFeed({
    *alerts() {
      yield* [pending, firing];
    },
    subscribe(told) {
      listener = told;
      return { [Symbol.dispose]: () => {} };
    },
  });
  const heard: string[] = [];
  using _heard = feed.subscribe((alert) => heard.push(alert.node));
  listener(pending, 'pending');
  listener(pending, 'withdrawn');
  listener(firing, 'fired');
  listener(firing, 'acknowledged');
  expect([[...feed.alerts()].map(({ node }) => node), heard]).toEqual([['n2'], ['n2', 'n2']]);
});
