import { expect, test } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { alertAt, notifyRig } from './notify-rig.ts';

const BY_NODE = `
route: { receiver: people, group_by: [cluster, node], group_wait: 10s, group_interval: 5m, repeat_interval: 4h }
receivers: [ { name: people, box: [ {} ] } ]
`;

// A page for each of 12,500 nodes is none at all; and so is one that says nothing of the worst.
test.each([
  { what: 'groups by node', file: BY_NODE },
  { what: 'one group', file: BY_NODE.replace('[cluster, node]', '[cluster, rule]') },
])(
  '100,000 alerts are at most 20 notifications, and nothing is lost over a restart ($what)',
  async ({ file }) => {
    await using rig = notifyRig(file);
    rig.rounds = 500;
    const nodes = Array.from({ length: 12_500 }, (_, index) => `node-${index}`);
    const gpus = ['0', '1', '2', '3', '4', '5', '6', '7'];
    {
      await using notifier = await rig.open();
      await rig.pass(1_000, [notifier]);
      for (const node of nodes)
        for (const gpu of gpus)
          rig.feed.say(
            alertAt(rig.clock, node, 1, {
              gpu,
              ...(node === 'node-77' && gpu === '3' && { severity: Severity.CRITICAL }),
            }),
          );
      await rig.pass(60_000, [notifier], 5_000);
      const first = rig.mail.got[0]!.notification;
      expect([first.firingCount, first.severity, first.firing[0]!.node]).toEqual([
        100_000,
        'critical',
        'node-77',
      ]);
      expect(rig.mail.got).toHaveLength(1);
    }
    await using next = await rig.open();
    await rig.pass(400_000, [next], 10_000);
    expect(rig.mail.got).toHaveLength(1);
    // The half of them resolve, over half an hour.
    for (let part = 0; part < 30; part++) {
      for (const node of nodes.slice(0, 6_000).slice(part * 200, part * 200 + 200))
        for (const gpu of gpus) rig.feed.say(alertAt(rig.clock, node, 2, { gpu }));
      await rig.pass(60_000, [next], 5_000);
    }
    await rig.pass(900_000, [next], 10_000);
    expect(rig.mail.got.reduce((sum, { notification }) => sum + notification.resolvedCount, 0)).toBe(48_000);
    for (const node of nodes.slice(6_000))
      for (const gpu of gpus) rig.feed.say(alertAt(rig.clock, node, 2, { gpu }));
    await rig.pass(900_000, [next], 10_000);
    const last = rig.mail.got.at(-1)!.notification;
    expect(last.status).toBe('resolved');
    expect(rig.mail.got.reduce((sum, { notification }) => sum + notification.resolvedCount, 0)).toBe(100_000);
    expect(rig.mail.got.length).toBeLessThanOrEqual(20);
    // The books are empty, and no document was larger than the store takes.
    expect(rig.control.entries('sent').length).toBe(0);
    expect(rig.control.largest).toBeLessThan(64 * 1024);
  },
  120_000,
);

// The limit is the receiver's, and a storm is no reason to break it, nor to say only a part.
test('a receiver that may be told but twice in an hour is told of a whole storm, and of its end', async () => {
  await using rig = notifyRig(BY_NODE.replace('box: [ {} ]', 'box: [ { rate_limit: 2/1h } ]'));
  rig.rounds = 60;
  await using notifier = await rig.open();
  const say = (first: number, transition: number): void => {
    for (let node = first; node < first + 400; node++)
      rig.feed.say(alertAt(rig.clock, `n${node}`, transition));
  };
  await rig.pass(1_000, [notifier]);
  const startMs = rig.clock.ms;
  rig.feed.say(alertAt(rig.clock, 'alone', 1));
  await rig.pass(15_000, [notifier]);
  for (const first of [0, 400, 800]) {
    say(first, 1);
    await rig.pass(60_000, [notifier], 5_000);
  }
  for (let part = 0; part < 4; part++) await rig.pass(1_800_000, [notifier], 10_000);
  const told = (): Set<string> =>
    new Set(rig.mail.got.map(({ atMs }) => `${Math.floor((atMs - startMs) / 3_600_000)}`));
  expect(rig.mail.got.map(({ notification }) => notification.kind).slice(0, 3)).toEqual([
    ...['news', 'storm', 'storm'],
  ]);
  expect(Math.max(...rig.mail.got.map(({ notification }) => notification.firingCount))).toBe(800);
  expect(rig.mail.got.reduce((sum, { notification }) => sum + notification.firingCount, 0)).toBe(1_201);
  for (const first of [0, 400, 800]) say(first, 2);
  for (let part = 0; part < 4; part++) await rig.pass(1_800_000, [notifier], 10_000);
  expect(rig.mail.got.reduce((sum, { notification }) => sum + notification.resolvedCount, 0)).toBe(1_200);
  // Two at once, and two for each hour: never more.
  expect(rig.mail.got.length).toBeLessThanOrEqual(2 + 2 * (told().size + 1));
});
