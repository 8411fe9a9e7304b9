import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, test } from 'vitest';
import { systemClock } from '#shared/model/clock.ts';
import type { ReceiverKind } from '../../../../aggregator/alerts/notify/receivers/receiver-kind.ts';
import { RECEIVER_KINDS } from '../../../../aggregator/alerts/notify/receivers/registry.ts';
import { Alertmanager } from '../../../support/alertmanager.ts';
import { hasAlertmanager } from '../../../support/servers.ts';
import { until } from '../../../support/wait.ts';
import { START_MS } from '../block-of.ts';
import { alertAt, boxKinds, type NotifyRig, notifyRig, PLAIN_FILE, settled } from './notify-rig.ts';

const REFRESH_MS = 60_000;
/** One news in an hour, one reminder in ten days: what is said more often than that is the refresh. */
const FILE = PLAIN_FILE.replace('box: [ {} ]', 'box: [ { rate_limit: 1/1h } ]').replace('4h', '240h');
const BY_NODE = PLAIN_FILE.replace('[cluster, rule]', '[cluster, node]');

/** As the box of the rig, and it forgets. */
function forgetful(rig: NotifyRig, gate?: (at: string) => Promise<void>): Record<string, ReceiverKind> {
  const { box } = boxKinds(rig.mail, rig.clock, gate);
  return {
    box: {
      ...box!,
      open: async (...args) => ({ ...(await box!.open(...args)), refreshMs: REFRESH_MS }),
    },
  };
}

/** The longest time in which an alert was not named, from when it was first. */
function longestSilence(rig: NotifyRig, id: string): number {
  const times = rig.mail.got
    .filter(({ notification }) => notification.firing.some((alert) => alert.id === id))
    .map(({ atMs }) => atMs);
  const gaps = [...times.slice(1), rig.clock.ms].map((atMs, index) => atMs - times[index]!);
  return times.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...gaps);
}

// Lost without it: Alertmanager ends an alert four minutes after it began, and says that all is well.
test('what fires is said again to a receiver that forgets, whatever holds other reminders back', async () => {
  await using rig = notifyRig(FILE);
  await using notifier = await rig.open({ kinds: forgetful(rig) });
  const alert = alertAt(rig.clock, 'n1', 1);
  rig.feed.say(alert);
  await rig.pass(15_000, [notifier]);
  expect(rig.mail.got.map(({ notification }) => notification.kind)).toEqual(['news']);
  await rig.pass(600_000, [notifier]);
  rig.silenced.add(alert.id);
  await rig.pass(600_000, [notifier]);
  rig.silenced.clear();
  const at = timestampFromMs(START_MS);
  const acknowledged = {
    $typeName: 'gpufleet.alert.v1.Acknowledgement',
    by: 'eve',
    comment: '',
    at,
  } as const;
  rig.feed.say(alertAt(rig.clock, 'n1', 1, { acknowledged }));
  await rig.pass(600_000, [notifier]);
  expect(longestSilence(rig, alert.id)).toBeLessThanOrEqual(REFRESH_MS);
  expect(new Set(rig.mail.got.slice(1).map(({ notification }) => notification.kind))).toEqual(
    new Set(['reminder']),
  );
  // Not ten times as often either.
  expect(rig.mail.got.length).toBeLessThan(40);
  // It is no news: the list of what was sent is for people.
  expect(notifier.list()).toHaveLength(1);
});

test('an alert that ended or was never told is not said again, and its end overtakes nothing', async () => {
  await using rig = notifyRig(PLAIN_FILE);
  let open: (() => void) | undefined;
  let holds = false;
  const gate = async (at: string): Promise<void> => {
    if (holds && at === 'send') await new Promise<void>((resolve) => (open = resolve));
  };
  await using notifier = await rig.open({ kinds: forgetful(rig, gate) });
  const never = alertAt(rig.clock, 'n2', 1);
  rig.silenced.add(never.id);
  rig.feed.say(never);
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(300_000, [notifier]);
  holds = true;
  await rig.pass(70_000, [notifier]);
  expect(open, 'a refresh is on its way').toBeDefined();
  const before = rig.mail.got.length;
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  await rig.pass(30_000, [notifier]);
  expect(rig.mail.tries).toBe(before + 1);
  holds = false;
  open!();
  await settled();
  await rig.pass(30_000, [notifier]);
  const last = rig.mail.got.slice(before).map(({ notification }) => notification.status);
  expect(last).toEqual(['firing', 'resolved']);
  await rig.pass(300_000, [notifier]);
  expect(rig.mail.got).toHaveLength(before + 2);
  for (const { notification } of rig.mail.got)
    expect(notification.firing.map(({ node }) => node)).not.toContain('n2');
});

// A storm names fifty alerts: Alertmanager would know of no other.
test('of a storm every alert is named, again and again, in few notifications', async () => {
  await using rig = notifyRig(BY_NODE);
  rig.rounds = 40;
  await using notifier = await rig.open({ kinds: forgetful(rig) });
  const alerts = Array.from({ length: 800 }, (_, index) =>
    alertAt(rig.clock, `n${index >> 3}`, 1, { gpu: `${index & 7}` }),
  );
  for (const alert of alerts) rig.feed.say(alert);
  await rig.pass(25_000, [notifier]);
  const named = new Set(rig.mail.got.flatMap(({ notification }) => notification.firing.map(({ id }) => id)));
  expect(named.size).toBe(800);
  await rig.pass(275_000, [notifier]);
  expect(rig.mail.got[0]!.notification).toMatchObject({ kind: 'storm', firingCount: 800 });
  for (const { id } of alerts) expect(longestSilence(rig, id)).toBeLessThanOrEqual(REFRESH_MS);
  // 6 groups of 8 in each: 17 for all.
  expect(rig.mail.got.length).toBeLessThanOrEqual(1 + 17 * 6);
  for (const { notification } of rig.mail.got.slice(1))
    expect(notification.firingCount).toBeLessThanOrEqual(50);
  // Whoever takes over says it at once: it does not know when it was said last.
  const before = rig.mail.got.length;
  await using next = await rig.open({ kinds: forgetful(rig) });
  await rig.pass(2_000, [next]);
  expect(rig.mail.got.length - before).toBe(17);
});

test('a refresh that fails is no dead letter, is tried again soon, and holds up no other', async () => {
  await using rig = notifyRig(BY_NODE);
  await using notifier = await rig.open({ kinds: forgetful(rig) });
  // Each too large to go with another.
  const alerts = Array.from({ length: 240 }, (_, index) =>
    alertAt(rig.clock, `n${Math.floor(index / 30)}`, 1, { gpu: `${index % 30}` }),
  );
  for (const alert of alerts) rig.feed.say(alert);
  await rig.pass(15_000, [notifier]);
  expect(rig.mail.got).toHaveLength(8);
  const isPoison = (node: string): boolean => Number(node.slice(1)) < 5;
  rig.mail.answer = ({ firing }) =>
    isPoison(firing[0]!.node) ? { outcome: 'retry', why: '500' } : { outcome: 'sent' };
  const tries = rig.mail.tries;
  await rig.pass(600_000, [notifier]);
  const good = alerts.filter(({ node }) => !isPoison(node));
  for (const { id } of good) expect(longestSilence(rig, id)).toBeLessThanOrEqual(REFRESH_MS + 10_000);
  expect(rig.mail.tries - tries).toBeLessThan(200);
  rig.mail.answer = () => ({ outcome: 'sent' });
  const atMs = rig.clock.ms;
  await rig.pass(45_000, [notifier]);
  for (const { node } of alerts.filter(({ gpu }) => gpu === '0'))
    expect(
      rig.mail.got.some((one) => one.atMs > atMs - REFRESH_MS && one.notification.firing[0]!.node === node),
    ).toBe(true);
  expect(rig.dead).toEqual([]);
});

test('what is being told is not said again meanwhile: the end of an alert would be taken back', async () => {
  await using rig = notifyRig(PLAIN_FILE);
  let open: (() => void) | undefined;
  const gate = async (at: string): Promise<void> => {
    const hold = at === 'send' && rig.feed.states.get(ended.id)?.transition === 2n;
    if (hold && open === undefined) await new Promise<void>((resolve) => (open = resolve));
  };
  const ended = alertAt(rig.clock, 'n1', 1);
  await using notifier = await rig.open({ kinds: forgetful(rig, gate) });
  rig.feed.say(ended);
  rig.feed.say(alertAt(rig.clock, 'n2', 1));
  await rig.pass(305_000, [notifier], 500);
  rig.feed.say(alertAt(rig.clock, 'n1', 2));
  await rig.pass(70_000, [notifier], 500);
  expect(open, 'something is on its way').toBeDefined();
  const tries = rig.mail.tries;
  await rig.pass(300_000, [notifier]);
  expect(rig.mail.tries).toBe(tries);
  open!();
  await settled();
  await rig.pass(70_000, [notifier]);
  expect(rig.mail.tries).toBeGreaterThan(tries);
});

test('a receiver that was away hears of everything within one refresh', async () => {
  await using rig = notifyRig(BY_NODE);
  await using notifier = await rig.open({ kinds: forgetful(rig) });
  rig.mail.answer = () => ({ outcome: 'retry', why: '503' });
  for (let node = 0; node < 8; node++) rig.feed.say(alertAt(rig.clock, `n${node}`, 1));
  await rig.pass(1_800_000, [notifier]);
  rig.mail.answer = () => ({ outcome: 'sent' });
  await rig.pass(REFRESH_MS + 2_000, [notifier]);
  const nodes = rig.mail.got.flatMap(({ notification }) => notification.firing.map(({ node }) => node));
  expect(new Set(nodes).size).toBe(8);
});

test('a clock that was set back does not let what fires be forgotten', async () => {
  await using rig = notifyRig(FILE);
  await using notifier = await rig.open({ kinds: forgetful(rig) });
  rig.clock.ms += 24 * 3_600_000;
  rig.feed.say(alertAt(rig.clock, 'n1', 1));
  await rig.pass(90_000, [notifier]);
  rig.clock.ms -= 24 * 3_600_000;
  const before = rig.mail.got.length;
  await rig.pass(130_000, [notifier]);
  expect(rig.mail.got.length - before).toBeGreaterThanOrEqual(2);
});

describe.skipIf(!hasAlertmanager())('the real Alertmanager', () => {
  test('keeps an alert as long as it fires, though it may be told news but once an hour', async () => {
    await using server = await Alertmanager.start();
    // It ends what it has not heard of for four refreshes: 4 s.
    await using rig = notifyRig(`
route: { receiver: am, group_by: [cluster, node], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }
receivers: [ { name: am, alertmanager: [ { urls: ["${server.url}"], refresh: 1s, rate_limit: 1/1h } ] } ]
`);
    rig.clock.ms = Date.now();
    await using notifier = await rig.open({ kinds: RECEIVER_KINDS, clock: systemClock });
    const stop = new AbortController();
    const run = notifier.run(stop.signal);
    rig.feed.say(alertAt(rig.clock, 'n1', 1));
    const ends = async (): Promise<number> => Date.parse((await server.alerts())[0]?.endsAt ?? '');
    const patience = { timeoutMs: 12_000, what: 'Alertmanager says so' };
    await until(async () => (await server.alerts()).length === 1, patience);
    const first = await ends();
    // Past the end that it had at first.
    await until(async () => Date.now() > first + 1_000 && (await ends()) > Date.now(), patience);
    stop.abort();
    await run;
    await until(async () => (await server.alerts()).length === 0, patience);
  });
});
