import { expect, test } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { parseNotifyFile } from '../../../../aggregator/alerts/notify/notify-file.ts';
import type { NotifySettings } from '../../../../aggregator/alerts/notify/notify-settings.ts';
import { groupLabelsOf, isOpen, routesOf } from '../../../../aggregator/alerts/notify/routing.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt, boxKinds, Mailbox } from './notify-rig.ts';

const clock = new ManualClock();
const read = (text: string): NotifySettings =>
  parseNotifyFile(text, 'notify.yaml', boxKinds(new Mailbox(), clock));

const FULL = `
link: https://gpufleet.example/
route:
  receiver: default
  group_by: [cluster, rule]
  routes:
    - { receiver: pager, matchers: ['severity=critical'], group_wait: 1s, continue: true }
    - receiver: night
      matchers: ['severity=critical', 'node=~"n[0-9]+"']
      active_time_intervals: [nights]
      routes: [ { matchers: [ 'rule="hot"' ], group_by: ['...'], repeat_interval: 1h } ]
    - { receiver: pager, matchers: ['severity!=critical', 'team=ops'], mute_time_intervals: [nights] }
time_intervals: [ { name: nights, time_intervals: [ { times: [ { start_time: '22:00', end_time: '24:00' } ] } ] } ]
inhibit_rules: [ { source_matchers: ['rule=a'], target_matchers: ['rule=b'], equal: [node] } ]
templates: { title: '{{ rule }}: {{ firing_count }} in {{ cluster }}' }
receivers:
  - { name: default }
  - { name: pager, box: [ { rate_limit: 5/1m, send_resolved: false }, {} ] }
  - { name: night, box: [ { timeout: 1s } ] }
`;

// An alert that takes the wrong way reaches nobody who can help.
test('routes are chosen and inherit as in Alertmanager', () => {
  const { route, receivers, link, inhibitRules } = read(FULL);
  const critical = alertAt(clock, 'n7', 1, { severity: Severity.CRITICAL });
  expect(routesOf(route, critical).map(({ receiver }) => receiver)).toEqual(['pager', 'night']);
  const [pager, night] = routesOf(route, critical);
  expect([pager!.groupWaitMs, pager!.groupIntervalMs, pager!.repeatIntervalMs]).toEqual([
    1_000, 300_000, 14_400_000,
  ]);
  expect([night!.groupWaitMs, night!.repeatIntervalMs]).toEqual([10_000, 3_600_000]);
  const cold = alertAt(clock, 'n7', 1, { severity: Severity.CRITICAL, rule: 'cold' });
  expect(routesOf(route, cold).map(({ groupBy }) => groupBy)).toEqual([
    ['cluster', 'rule'],
    ['cluster', 'rule'],
  ]);
  expect(routesOf(route, alertAt(clock, 'n7', 1)).map(({ receiver }) => receiver)).toEqual(['default']);
  const ours = alertAt(clock, 'n7', 1, { labels: { team: 'ops' } });
  expect(routesOf(route, ours).map(({ receiver }) => receiver)).toEqual(['pager']);
  expect(receivers.get('pager')).toMatchObject([
    { id: 'pager:box:0', sendResolved: false, rateLimit: { count: 5, windowMs: 60_000 } },
    { id: 'pager:box:1', sendResolved: true, timeoutMs: 10_000 },
  ]);
  expect([link, inhibitRules.length]).toEqual(['https://gpufleet.example/', 1]);
});

test('groups are by the labels that are named, or by all', () => {
  const { route } = read(FULL);
  const alert = alertAt(clock, 'n7', 1, { severity: Severity.CRITICAL, gpu: '3', labels: { rack: 'r1' } });
  const [pager, night] = routesOf(route, alert);
  expect(groupLabelsOf(pager!, alert)).toEqual({ cluster: 'east', rule: 'hot' });
  expect(groupLabelsOf(night!, alert)).toMatchObject({ gpu: '3', rack: 'r1', node: 'n7' });
});

test('a route is silent within its mute intervals and outside its active ones', () => {
  const { route } = read(FULL);
  const [, night, muted] = route.routes;
  const [day, late] = [Date.parse('2026-11-21T12:00Z'), Date.parse('2026-11-21T23:00Z')];
  expect([isOpen(night!, day), isOpen(night!, late)]).toEqual([false, true]);
  expect([isOpen(muted!, day), isOpen(muted!, late)]).toEqual([true, false]);
});

test.each([
  ['', 'receivers: is missing'],
  ['route: [\n', 'notify.yaml:2:1'],
  [
    'route: { receiver: a, matchers: ["x=y"] }\nreceivers: [ { name: a } ]',
    '1:33: route.matchers: is not for the first route',
  ],
  [
    'route: { receiver: a, routes: [ { matchers: ["severity"] } ] }\nreceivers: [ { name: a } ]',
    '1:46: route.routes[0].matchers[0]',
  ],
  [
    'route: { receiver: a, group_wait: soon }\nreceivers: [ { name: a } ]',
    '1:35: route.group_wait: must be a duration',
  ],
  ['route: { receiver: a, grupp: x }\nreceivers: [ { name: a } ]', 'route.grupp: is not a setting'],
  [
    'route: { receiver: a }\nreceivers: [ { name: a, pigeon: [ {} ] } ]',
    '2:33: receivers[0].pigeon: is no kind of receiver: must be box',
  ],
  [
    'route: { receiver: a }\nreceivers: [ { name: a }, { name: a } ]',
    'receivers[1].name: "a" is there twice',
  ],
  [
    'route: { receiver: a, routes: [ { mute_time_intervals: [x] } ] }\nreceivers: [ { name: a } ]',
    '"x" is no time interval',
  ],
  [
    'route: { receiver: a }\nreceivers: [ { name: a } ]\ntemplates: { title: "{{ nothing }}" }',
    '3:21: templates.title: unknown name "nothing"',
  ],
  [
    'route: { receiver: a }\nreceivers: [ { name: a, box: [ { rate_limit: lots } ] } ]',
    'receivers[0].box[0].rate_limit',
  ],
  [
    'route: { receiver: a }\nreceivers: [ { name: a } ]\ninhibit_rules: [ { source_matchers: [] } ]',
    'inhibit_rules[0]',
  ],
])('%j is refused', (text, fault) => {
  expect(() => read(text)).toThrow(fault);
});
