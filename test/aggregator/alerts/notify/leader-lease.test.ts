import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import type { ControlState } from '../../../../aggregator/alerts/control/control-store.ts';
import { LeaderLease } from '../../../../aggregator/alerts/notify/leader-lease.ts';
import type { Notifier } from '../../../../aggregator/alerts/notify/notifier.ts';
import { ManualClock } from '../block-of.ts';
import { gatedControl, MemoryControl } from './memory-control.ts';
import { alertAt, ManualFeed, MemoryShelf, type NotifyRig, notifyRig, settled } from './notify-rig.ts';

const pair = async (rig: NotifyRig): Promise<[Notifier, Notifier]> => {
  rig.control.state = 'shared';
  return [
    await rig.open({ shard: 'a', clusterFeed: rig.feed }),
    await rig.open({ shard: 'b', clusterFeed: rig.feed }),
  ];
};

test('of several aggregators one notifies, and the next one when it has gone: everybody is told once', async () => {
  await using rig = notifyRig();
  const [a, b] = await pair(rig);
  await using _a = a;
  await using _b = b;
  await rig.pass(5_000, [a, b]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(20_000, [a, b]);
  expect(rig.mail.got).toHaveLength(1);
  // It is gone without a word.
  rig.feed.say(alertAt(rig.clock, 'n2', 1, { rule: 'cold' }));
  await rig.pass(60_000, [b]);
  expect(rig.mail.got.map(({ notification }) => notification.firing[0]!.node)).toEqual(['n1', 'n2']);
});

test('an aggregator that ends hands over at once', async () => {
  await using rig = notifyRig();
  const [a, b] = await pair(rig);
  await using _b = b;
  await rig.pass(3_000, [a]);
  const stop = new AbortController();
  const run = a.run(stop.signal);
  stop.abort();
  await a[Symbol.asyncDispose]();
  await run;
  expect(rig.control.get('lease/notifier')?.value).toBeDefined();
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(20_000, [b]);
  expect(rig.mail.got).toHaveLength(1);
});

test('while NATS is away each notifies for its own alerts, and what it told is not told again after it', async () => {
  await using rig = notifyRig();
  const [a, b] = await pair(rig);
  await using _a = a;
  await using _b = b;
  await rig.pass(5_000, [a, b]);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(15_000, [a, b]);
  rig.control.state = 'away';
  // `b` sees nothing of it: it is alone in its part of the network, as is `a`.
  rig.feed.say(alertAt(rig.clock, 'n2', 1, { rule: 'cold' }));
  await rig.pass(60_000, [a]);
  expect(rig.mail.got.map(({ notification }) => notification.firing[0]!.node)).toEqual(['n1', 'n2']);
  rig.control.state = 'shared';
  await rig.pass(700_000, [a, b], 2_000);
  expect(rig.mail.got).toHaveLength(2);
  // What ends is told by whoever leads now.
  rig.feed.say(alertAt(rig.clock, 'n2', 2, { rule: 'cold' }));
  await rig.pass(400_000, [a, b], 2_000);
  expect(rig.mail.got.at(-1)!.notification.status).toBe('resolved');
});

// Lost without it: an incident that stays open for ever, as nobody knows any more that it was opened.
test('what was told while NATS was away and ended before it came back is told to have ended', async () => {
  await using rig = notifyRig();
  const [a, b] = await pair(rig);
  await using _a = a;
  await using _b = b;
  await rig.pass(5_000, [a, b]);
  const holder = (rig.control.get('lease/notifier')!.value as { owner: string }).owner;
  const [cut, leads] = holder.startsWith('a') ? [b, a] : [a, b];
  await rig.pass(700_000, [leads], 5_000);
  rig.control.state = 'away';
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(60_000, [cut]);
  expect(rig.mail.got).toHaveLength(1);
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  await rig.pass(1_000, [cut]);
  rig.control.state = 'shared';
  await rig.pass(900_000, [cut, leads], 5_000);
  expect(rig.mail.got.map(({ notification }) => notification.status)).toEqual(['firing', 'resolved']);
  expect(rig.mail.got[1]!.notification.groupKey).toBe(rig.mail.got[0]!.notification.groupKey);
  expect(rig.control.entries('sent').length).toBe(0);
});

test('so it is where but one aggregator was cut off, and the other went on all the time', async () => {
  await using rig = notifyRig();
  rig.control.state = 'shared';
  let state: ControlState = 'shared';
  const control = Object.defineProperty(
    gatedControl(rig.control, async () => {}),
    'state',
    {
      get: () => state,
    },
  );
  await using leads = await rig.open({ shard: 'a', clusterFeed: rig.feed });
  await rig.pass(700_000, [leads], 5_000);
  const own = new ManualFeed();
  await using cut = await rig.open({
    ...{ shard: 'b', feed: own, clusterFeed: rig.feed, control, shelf: new MemoryShelf() },
  });
  state = 'away';
  own.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(60_000, [leads, cut]);
  expect(rig.mail.got).toHaveLength(1);
  // Its transitions reach the stream when it is back, and are of an alert that has ended.
  state = 'shared';
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  await rig.pass(900_000, [leads, cut], 5_000);
  expect(rig.mail.got.map(({ notification }) => notification.status)).toEqual(['firing', 'resolved']);
});

test('an aggregator that cannot say what it told while NATS was away notifies all the same', async () => {
  await using rig = notifyRig();
  rig.control.state = 'shared';
  const gate = async (at: string): Promise<void> => {
    if (at.startsWith('put sent-away/')) throw new Error('the bucket is full');
  };
  await using a = await rig.open({ clusterFeed: rig.feed, control: gatedControl(rig.control, gate) });
  await rig.pass(5_000, [a]);
  rig.control.state = 'away';
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(60_000, [a]);
  rig.control.state = 'shared';
  rig.feed.say(alertAt(rig.clock, 'n2', 1, { rule: 'cold' }));
  await rig.pass(60_000, [a]);
  expect(rig.mail.got.map(({ notification }) => notification.firing[0]!.node)).toContain('n2');
});

test('an outage of a few seconds makes nobody notify for itself', async () => {
  await using rig = notifyRig();
  const [a, b] = await pair(rig);
  await using _a = a;
  await using _b = b;
  await rig.pass(5_000, [a, b]);
  rig.control.state = 'away';
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(12_000, [a, b]);
  expect(rig.mail.got).toEqual([]);
  rig.control.state = 'shared';
  await rig.pass(40_000, [a, b]);
  expect(rig.mail.got).toHaveLength(1);
});

test('a holder that cannot renew has given up before anybody may take over', async () => {
  const control = new MemoryControl();
  const clock = new ManualClock();
  const open = (owner: string): LeaderLease =>
    new LeaderLease({ control, owner, clock, logger: silentLogger });
  const [a, b] = [open('a'), open('b')];
  const step = async (ms: number, ...leases: LeaderLease[]): Promise<void> => {
    clock.ms += ms;
    for (const lease of leases) lease.tick();
    await settled();
  };
  await step(1_000, a, b);
  expect([a.held, b.held]).toEqual([true, false]);
  for (let second = 0; second < 60; second++) await step(1_000, a, b);
  expect([a.held, b.held]).toEqual([true, false]);
  // `a` is stopped, as by a debugger or a full disk; it must know without a tick of its own.
  for (let second = 0; second < 16; second++) {
    await step(1_000, b);
    expect(a.held && b.held).toBe(false);
  }
  await step(1_000, b);
  expect([a.held, b.held]).toEqual([false, true]);
  await step(1_000, a, b);
  expect([a.held, b.held]).toEqual([false, true]);
});

test('a renewal that was written and whose answer was lost does not cost the lease', async () => {
  const control = new MemoryControl();
  const clock = new ManualClock();
  let lost = false;
  const lease = new LeaderLease({
    control: {
      state: 'shared',
      get: (key) => control.get(key),
      delete: (key, expected) => control.delete(key, expected),
      async put(key, value, expected) {
        const revision = await control.put(key, value, expected);
        if (lost) throw new Error('timeout');
        return revision;
      },
    },
    ...{ owner: 'a', clock, logger: silentLogger },
  });
  for (let second = 0; second < 60; second++) {
    clock.ms += 1_000;
    lost = second >= 10 && second < 14;
    lease.tick();
    await settled();
    expect(lease.held).toBe(true);
  }
});

test('the lease is renewed while what is being sent takes its time', async () => {
  await using rig = notifyRig();
  let holds = false;
  let hung: (() => void) | undefined;
  const gate = async (at: string): Promise<void> => {
    if (holds && at.startsWith('did put sent/')) await new Promise<void>((resolve) => (hung = resolve));
  };
  rig.control.state = 'shared';
  await using a = await rig.open({
    shard: 'a',
    clusterFeed: rig.feed,
    control: gatedControl(rig.control, gate),
  });
  await using b = await rig.open({ shard: 'b', clusterFeed: rig.feed });
  await rig.pass(5_000, [a]);
  holds = true;
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(12_000, [a, b]);
  expect(hung, 'a notification is being written').toBeDefined();
  const reloading = a.reload();
  await rig.pass(40_000, [a, b]);
  expect((rig.control.get('lease/notifier')!.value as { owner: string }).owner).toMatch(/^a /);
  holds = false;
  hung!();
  expect(await reloading).toEqual({ ok: true });
  await rig.pass(30_000, [a, b]);
  expect(rig.mail.got).toHaveLength(1);
});
