import { expect, test } from 'vitest';
import { AlertGroup, type Judges, type Plan } from '../../../../aggregator/alerts/notify/alert-group.ts';
import type { Route } from '../../../../aggregator/alerts/notify/notify-settings.ts';
import { ManualClock } from '../block-of.ts';
import { alertAt } from './notify-rig.ts';

const ROUTE: Route = {
  ...{ key: 'r', receiver: 'people', groupBy: [], matches: () => true, continue: false },
  ...{ groupWaitMs: 1_000, groupIntervalMs: 60_000, repeatIntervalMs: 3_600_000 },
  ...{ mutedIn: [], activeIn: [], routes: [] },
};
const JUDGES: Judges = { muted: () => false, flaps: () => 0, knowsAll: () => true };

/** A group of so many alerts that were told. */
function toldGroup(clock: ManualClock, count: number): AlertGroup {
  const group = new AlertGroup({ key: 'k', labels: {}, cluster: 'east' }, ROUTE);
  for (let node = 0; node < count; node++) group.take(alertAt(clock, `n${node}`, 1), clock.ms);
  const plan = look(group, clock, () => {});
  group.begin();
  group.settle(plan.told, clock.ms, clock.ms);
  return group;
}

/** Looks at it, with something that happens after the first step. */
function look(group: AlertGroup, clock: ManualClock, meanwhile: () => void): Plan {
  const steps = group.plan(clock.ms, JUDGES, true);
  let step = steps.next();
  if (!step.done) meanwhile();
  while (!step.done) step = steps.next();
  return step.value;
}

// Lost without it: the end of an incident, where somebody looked at the wrong moment.
test('what comes while a group is looked at, and there is nothing to tell, is told later', () => {
  const clock = new ManualClock();
  const group = toldGroup(clock, 1_200);
  const plan = look(group, clock, () => group.take(alertAt(clock, 'n0', 2), clock.ms));
  expect([plan.kind, plan.changed, group.busy]).toEqual(['nothing', false, false]);
  group.rest(clock.ms, plan.arrivedMs);
  expect(group.dueMs).toBe(clock.ms + 60_000);
  clock.ms += 60_000;
  expect(look(group, clock, () => {}).ended.map(({ node }) => node)).toEqual(['n0']);
});

test('what comes and goes while a group is looked at is not kept', () => {
  const clock = new ManualClock();
  const group = toldGroup(clock, 1_200);
  const plan = look(group, clock, () => group.take(alertAt(clock, 'late', 2), clock.ms));
  expect(group.size).toBe(1_201);
  group.rest(clock.ms, plan.arrivedMs);
  expect(group.size).toBe(1_200);
});

test('one that ended after it was looked at is told as firing, and then as ended', () => {
  const clock = new ManualClock();
  const group = toldGroup(clock, 600);
  group.take(alertAt(clock, 'new', 1), clock.ms);
  const steps = group.plan(clock.ms, JUDGES, true);
  let step = steps.next();
  while (!step.done) step = steps.next();
  const plan = step.value;
  expect(plan.fresh.size).toBe(1);
  group.begin();
  group.take(alertAt(clock, 'new', 2), clock.ms);
  group.settle(plan.told, clock.ms, clock.ms);
  expect(group.dueMs).toBe(clock.ms + 60_000);
  expect(look(group, clock, () => {}).ended.map(({ node }) => node)).toEqual(['new']);
});
