import { expect, test } from 'vitest';
import { SOURCE, START_MS, xidEvent } from './block-of.ts';
import { engineWith, hot } from './engine-of.ts';

const CONTEXT = { rack: 'r7', pool: 'train' };

test('an alert carries what is known of its place, its series and its rule, so that routes can go by it', () => {
  const asked: string[][] = [];
  const { heat, told } = engineWith(hot('add_labels: { team: hw, pool: mine }'), {
    contextOf: (...subject) => {
      asked.push(subject);
      return CONTEXT;
    },
  });
  heat(0, [91]);
  expect(told[0]!.alert.labels).toEqual({ rack: 'r7', pool: 'mine', sensor: 'core', team: 'hw' });
  expect(asked).toEqual([['east', SOURCE.node, 'GPU-0']]);
});

test('so does an event alert, whose annotations may use it', () => {
  const rules =
    'rules: [{name: x, event: xid, annotations: {description: "{{ labels.rack }}: {{ labels.action }}"}}]';
  const { engine, told } = engineWith(rules, { contextOf: () => CONTEXT });
  engine.event(SOURCE, xidEvent(79, START_MS), false);
  expect(told[0]!.alert.labels).toMatchObject({ rack: 'r7', pool: 'train', code: '79' });
  expect(told[0]!.alert.annotations.description).toMatch(/^r7: .+/);
});

test('what moved to another rack says so when it fires again', () => {
  let rack = 'r7';
  const { heat, told } = engineWith(hot(), { contextOf: () => ({ rack }) });
  heat(0, [91]);
  rack = 'r8';
  heat(1, [96, 60, 91]);
  expect(told.map(({ alert }) => alert.labels.rack)).toEqual(['r7', 'r7', 'r7', 'r8']);
});

test('what is known of a place has a bound, whatever an inventory holds', () => {
  const much = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`l${i}`, 'x'.repeat(5000)]));
  const { heat, told } = engineWith(hot(), { contextOf: () => much });
  heat(0, [91]);
  const { labels } = told[0]!.alert;
  expect(Object.keys(labels)).toHaveLength(17);
  expect(labels.l0).toHaveLength(200);
});

test('each transition says who silences and inhibits it, as of then; pending is nobody s business', () => {
  const silencedBy: string[] = [];
  const asked: string[] = [];
  const { heat, told } = engineWith(hot('for: 1s'), {
    stamp: (alert) => {
      asked.push(`${alert.transition}`);
      return { silencedBy: [...silencedBy], inhibitedBy: ['node-down'] };
    },
  });
  heat(0, [91, 91]);
  silencedBy.push('s1');
  heat(2, [60]);
  expect(told.map(({ change, alert }) => [change, alert.silencedBy, alert.inhibitedBy])).toEqual([
    ['pending', [], []],
    ['fired', [], ['node-down']],
    ['resolved', ['s1'], ['node-down']],
  ]);
  expect(asked).toEqual(['1', '2']);
});
