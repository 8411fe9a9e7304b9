import { timestampMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { isTransition } from '../../../aggregator/alerts/alert-change.ts';
import { SOURCE, START_MS, xidEvent } from './block-of.ts';
import { engineWith, hot } from './engine-of.ts';

test('an acknowledgement is told, counted and kept as a transition, and the alert goes on firing', async () => {
  const { engine, heat, told, registry } = engineWith(hot());
  heat(0, [91]);
  const { id, updatedAt } = told[0]!.alert;
  expect(engine.acknowledge(id, 'ada', 'fan is on order', START_MS + 5000)).toBe('acknowledged');
  const { change, alert } = told[1]!;
  expect([change, isTransition(change)]).toEqual(['acknowledged', true]);
  expect(alert).toMatchObject({
    ...{ state: AlertState.FIRING, transition: 2n, updatedAt },
    acknowledged: { by: 'ada', comment: 'fan is on order' },
  });
  expect(timestampMs(alert.acknowledged!.at!)).toBe(START_MS + 5000);
  expect(await registry.metrics()).toContain('transitions_total{rule="hot",state="acknowledged"} 1');
});

test('it stays while the severity rises and when the alert resolves, and is gone when it fires anew', () => {
  const { engine, heat, told } = engineWith(hot());
  heat(0, [91]);
  engine.acknowledge(told[0]!.alert.id, 'ada', '', START_MS);
  heat(1, [96, 60, 91]);
  expect(told.map(({ change, alert }) => [change, alert.acknowledged?.by])).toEqual([
    ['fired', undefined],
    ['acknowledged', 'ada'],
    ['severity', 'ada'],
    ['resolved', 'ada'],
    ['fired', undefined],
  ]);
});

test('it is gone when an event alert fires anew, too', () => {
  const { engine, clock, told } = engineWith('rules: [{name: x, event: xid, expires: 1m}]');
  engine.event(SOURCE, xidEvent(79, START_MS), false);
  engine.acknowledge(told[0]!.alert.id, 'ada', '', START_MS);
  clock.ms = START_MS + 60_000;
  engine.advance(clock.ms);
  engine.event(SOURCE, xidEvent(79, clock.ms), false);
  expect(told.at(-1)).toMatchObject({ change: 'fired', alert: { acknowledged: undefined, transition: 4n } });
});

test('it survives a restart, and does not make an Xid fire for longer', () => {
  const first = engineWith('rules: [{name: x, event: xid, expires: 1h}]');
  first.engine.event(SOURCE, xidEvent(79, START_MS), false);
  const { id } = first.told[0]!.alert;
  first.engine.acknowledge(id, 'ada', '', START_MS + 3_000_000);
  const second = engineWith('rules: [{name: x, event: xid, expires: 1h}]');
  second.engine.restore(first.engine.alerts());
  expect(second.engine.get(id)!.acknowledged?.by).toBe('ada');
  second.engine.advance(START_MS + 3_600_000);
  expect(second.news()).toEqual(['resolved']);
});

test('it can be taken back, and what does not fire can have none', () => {
  const { engine, heat, told } = engineWith(hot());
  expect(engine.acknowledge('0000000000000000', 'ada', '', START_MS)).toBe('not_found');
  expect(engine.withdrawAcknowledgement('0000000000000000')).toBe('not_found');
  heat(0, [91]);
  const { id } = told[0]!.alert;
  expect(engine.withdrawAcknowledgement(id)).toBe('not_active');
  engine.acknowledge(id, 'ada', '', START_MS);
  engine.acknowledge(id, 'bob', 'mine', START_MS + 1);
  expect(engine.get(id)!.acknowledged).toMatchObject({ by: 'bob', comment: 'mine' });
  expect(engine.withdrawAcknowledgement(id)).toBe('withdrawn');
  expect(told.at(-1)).toMatchObject({ change: 'unacknowledged', alert: { acknowledged: undefined } });
  heat(1, [60]);
  expect(engine.acknowledge(id, 'ada', '', START_MS)).toBe('not_active');
});
