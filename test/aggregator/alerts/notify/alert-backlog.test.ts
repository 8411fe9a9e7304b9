import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { AlertBacklog } from '../../../../aggregator/alerts/notify/alert-backlog.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt, notifyRig, PLAIN_FILE } from './notify-rig.ts';

const clock = new ManualClock();
const alerts = Array.from({ length: 1_000 }, (_, index) => alertAt(clock, `n${index}`, 1));
const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `n${index}`);

// Lost without it: the second in which every GPU crosses a limit, and no other sample is taken.
test('alerts are routed in order, none is left out, and other work comes between them', async () => {
  const routed: string[] = [];
  using backlog = new AlertBacklog(({ node }) => void routed.push(node));
  for (const alert of alerts) backlog.add(alert);
  expect(routed, 'whoever brings them does not wait').toEqual([]);
  const seen: number[] = [];
  while (backlog.size > 0) {
    await setImmediate();
    seen.push(routed.length);
  }
  expect(routed).toEqual(names(1_000));
  expect([backlog.routed, seen.length]).toEqual([1_000, 5]);
});

test('of an alert that changes while it waits the last state counts, in its place', async () => {
  const routed: string[] = [];
  using backlog = new AlertBacklog(({ node, transition }) => void routed.push(`${node} ${transition}`));
  for (const [node, transition] of [
    ['a', 1],
    ['b', 1],
    ['a', 2],
  ] as const)
    backlog.add(alertAt(clock, node, transition));
  await setImmediate();
  expect(routed).toEqual(['a 2', 'b 1']);
});

test('it is bounded: beyond it whoever brings alerts waits, and nothing is lost', async () => {
  const routed: string[] = [];
  using backlog = new AlertBacklog(({ node }) => void routed.push(node), 300);
  for (const alert of alerts) {
    backlog.add(alert);
    expect(backlog.size).toBeLessThanOrEqual(300);
  }
  for (let turn = 0; backlog.size > 0 && turn < 10; turn++) await setImmediate();
  expect(routed).toEqual(names(1_000));
});

test('nothing is routed once its notifier is no longer in charge', async () => {
  const routed: string[] = [];
  const backlog = new AlertBacklog(({ node }) => void routed.push(node));
  for (const alert of alerts) backlog.add(alert);
  await setImmediate();
  backlog[Symbol.dispose]();
  await setImmediate();
  await setImmediate();
  expect(routed).toHaveLength(200);
});

// Told bit by bit, the first ten groups would be ten pages, and whoever is held back by a late one would be told.
test('what comes together is told together, also without group_wait', async () => {
  await using rig = notifyRig(
    PLAIN_FILE.replace('[cluster, rule]', '[cluster, node]').replace('group_wait: 10s', 'group_wait: 0s'),
  );
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  rig.rounds = 1;
  for (const alert of alerts) rig.feed.say(alert);
  await rig.pass(28_000, [notifier]);
  expect(rig.mail.got.map(({ notification }) => [notification.kind, notification.firingCount])).toEqual([
    ['storm', 1_000],
  ]);
});

test('to look at twenty thousand alerts of one group does not hold up the process', async () => {
  await using rig = notifyRig();
  rig.rounds = 300;
  await using notifier = await rig.open();
  await rig.pass(1_000, [notifier]);
  for (let node = 0; node < 20_000; node++) rig.feed.say(alertAt(rig.clock, `n${node}`, 1));
  await rig.pass(9_000, [notifier]);
  rig.clock.ms += 2_000;
  notifier.tick();
  let turns = 0;
  for (; rig.mail.got.length === 0 && turns < 1_000; turns++) {
    await setImmediate();
    // One that ends and one that begins while it is looked at are not lost.
    if (turns === 5) {
      rig.feed.say(alertAt(rig.clock, 'n0', 2));
      rig.feed.say(alertAt(rig.clock, 'late', 1));
    }
  }
  expect(turns).toBeGreaterThan(30);
  expect(rig.mail.got[0]!.notification.firingCount).toBeGreaterThanOrEqual(20_000);
  await rig.pass(320_000, [notifier], 5_000);
  const last = rig.mail.got.at(-1)!.notification;
  expect(rig.mail.got).toHaveLength(2);
  expect([last.resolved.map(({ node }) => node), last.firingCount]).toEqual([['n0'], 20_000]);
});
