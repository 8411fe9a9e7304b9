import { describe, expect, it } from 'vitest';
import type { AggregateRule, GroupBy } from '../../../../aggregator/alerts/rules/rules.ts';
import { absentRule, aggregateRule, WatchedFleet } from './watched-fleet.ts';

const HOUR_S = 3_600;

function metricRule(
  fn: 'avg' | 'min' | 'max' | 'sum',
  by: GroupBy,
  limit: number,
  more: Partial<AggregateRule> = {},
) {
  return aggregateRule({ fn, metric: 'gpu_power_watts', labels: {} }, by, limit, more);
}

describe('a rule over a group of GPUs', () => {
  it('compares the average, least, largest and sum of the last values with its limit', () => {
    for (const [fn, value] of [
      ['avg', 300],
      ['min', 100],
      ['max', 500],
      ['sum', 900],
    ] as const) {
      const fleet = new WatchedFleet([metricRule(fn, 'rack', 0)]);
      for (const node of ['a', 'b']) fleet.groups.set(node, { rack: ['r1'] });
      fleet.tick('a', { 'GPU-1': 100, 'GPU-2': 300 });
      fleet.tick('b', { 'GPU-3': 500 });
      fleet.pass(1);
      expect([fn, fleet.engine.told.get('aggregate rack=r1')]).toEqual([fn, value]);
    }
  });

  it('groups by node, cluster and fleet without an inventory, and names the group in the alert', () => {
    for (const [by, name] of [
      ['node', 'aggregate a'],
      ['cluster', 'aggregate'],
      ['fleet', 'aggregate'],
    ] as const) {
      const fleet = new WatchedFleet([metricRule('sum', by, 1)]);
      fleet.tick('a', { 'GPU-1': 100 });
      fleet.pass(1);
      expect([...fleet.engine.told]).toEqual([[name, 100]]);
      const [alert] = fleet.engine.alerts();
      expect(alert!.cluster).toBe(by === 'fleet' ? '' : 'east');
    }
  });

  it('counts a GPU of two switches in both, and one without a rack in none', () => {
    const fleet = new WatchedFleet([metricRule('sum', 'switch', 0)]);
    fleet.groups.set('a', { switch: ['s1', 's2'] });
    fleet.tick('a', { 'GPU-1': 100 });
    fleet.tick('b', { 'GPU-2': 100 });
    fleet.pass(1);
    expect([...fleet.engine.told.keys()].sort()).toEqual(['aggregate switch=s1', 'aggregate switch=s2']);
  });

  it('forgets a value after a minute: a node that stopped reporting does not hold an average up', () => {
    const fleet = new WatchedFleet([metricRule('avg', 'rack', 150)]);
    for (const node of ['a', 'b']) fleet.groups.set(node, { rack: ['r1'] });
    fleet.tick('a', { 'GPU-1': 500 });
    fleet.pass(60, () => fleet.tick('b', { 'GPU-2': 100 }));
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=r1']);
    fleet.pass(2, () => fleet.tick('b', { 'GPU-2': 100 }));
    expect(fleet.engine.firing('aggregate')).toEqual([]);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(100);
  });

  it('of which nothing is left resolves, and so does one that the inventory calls otherwise now', () => {
    const fleet = new WatchedFleet([metricRule('max', 'rack', 150)]);
    for (const node of ['a', 'b']) fleet.groups.set(node, { rack: [`rack-of-${node}`] });
    fleet.tick('a', { 'GPU-1': 500 });
    fleet.pass(30, () => fleet.tick('b', { 'GPU-2': 500 }));
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=rack-of-a', 'rack=rack-of-b']);
    fleet.groups.set('b', { rack: ['new'] });
    fleet.pass(40, () => fleet.tick('b', { 'GPU-2': 500 }));
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=new']);
  });

  it('takes no value of the backlog for one of now', () => {
    const fleet = new WatchedFleet([metricRule('sum', 'fleet', 1)]);
    fleet.tick('a', { 'GPU-1': 100 }, 'gpu_power_watts', false);
    fleet.pass(1);
    expect(fleet.engine.calls).toBe(0);
  });

  it('waits after a start, and after a stop of the whole process, until its nodes had time to come back', () => {
    const below = { direction: 'below' } as const;
    const fleet = new WatchedFleet([metricRule('sum', 'fleet', 150, below)], { warmUpMs: 120_000 });
    fleet.pass(119, () => fleet.tick('a', { 'GPU-1': 100 }));
    expect(fleet.engine.calls).toBe(0);
    fleet.pass(2, () => fleet.tick('a', { 'GPU-1': 100 }));
    expect(fleet.engine.firing('aggregate')).toHaveLength(1);
    const { calls } = fleet.engine;
    fleet.clock.ms += 600_000;
    fleet.pass(1);
    expect(fleet.engine.calls).toBe(calls);
    expect(fleet.engine.firing('aggregate')).toHaveLength(1);
  });
});

describe('a rule over alerts', () => {
  const COUNT = aggregateRule({ fn: 'count_of', rule: 'critical' }, 'rack', 1);
  const SHARE = aggregateRule({ fn: 'share_of', rule: 'critical' }, 'rack', 0.3, { name: 'share' });

  function rackOf(rules: readonly AggregateRule[], warmUpMs = 0): WatchedFleet {
    const fleet = new WatchedFleet(rules, { warmUpMs });
    for (const node of ['a', 'b', 'c']) fleet.groups.set(node, { rack: ['r1'] });
    return fleet;
  }

  it('counts GPUs with a firing alert, each once, and the share of all GPUs of the group', () => {
    const fleet = rackOf([COUNT, SHARE]);
    fleet.tick('a', { 'GPU-1': 1, 'GPU-2': 1 });
    fleet.tick('b', { 'GPU-3': 1, 'GPU-4': 1 });
    for (const key of ['mig=1', 'mig=2']) fleet.engine.set('critical', fleet.gpu('a', 'GPU-1', key), true);
    fleet.pass(1);
    expect(fleet.engine.firing('aggregate')).toEqual([]);
    fleet.engine.set('critical', fleet.gpu('b', 'GPU-3'), true);
    fleet.pass(1);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(2);
    expect(fleet.engine.told.get('share rack=r1')).toBe(0.5);
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-1', 'mig=1'), false);
    fleet.pass(1);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(2);
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-1', 'mig=2'), false);
    fleet.pass(1);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(1);
    expect(fleet.engine.firing('aggregate')).toEqual([]);
  });

  it('divides by nodes where the alerts are of nodes', () => {
    const fleet = rackOf([SHARE]);
    for (const node of ['a', 'b', 'c']) fleet.tick(node, { [`GPU-${node}`]: 1, [`GPU-${node}2`]: 1 });
    fleet.engine.set('critical', { cluster: 'east', node: 'a', gpu: '', gpuUuid: '', key: '' }, true);
    fleet.pass(1);
    expect(fleet.engine.told.get('share rack=r1')).toBeCloseTo(1 / 3);
  });

  it('counts after a restart what fired before it, and says no share before the nodes came back', () => {
    const first = rackOf([]);
    for (const gpu of ['GPU-1', 'GPU-2']) first.engine.set('critical', first.gpu('a', gpu), true);
    const fleet = rackOf([], 120_000);
    for (const gpu of ['GPU-1', 'GPU-2']) fleet.engine.set('critical', fleet.gpu('a', gpu), true);
    fleet.watch.setRules([COUNT, SHARE]);
    fleet.pass(1);
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=r1']);
    expect(fleet.engine.told.has('share rack=r1')).toBe(false);
    fleet.pass(60);
    const values = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`GPU-${i}`, 1]));
    fleet.pass(61, () => fleet.tick('a', values));
    expect(fleet.engine.firing('share')).toEqual([]);
  });

  it('does not let go, while the nodes come back after a restart, of a group alert that fired before it', () => {
    const fleet = rackOf([], 120_000);
    fleet.engine.set('aggregate', { cluster: 'east', node: '', gpu: '', gpuUuid: '', key: 'rack=r1' }, true);
    fleet.watch.setRules([COUNT]);
    fleet.pass(100);
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=r1']);
    fleet.pass(30);
    expect(fleet.engine.firing('aggregate')).toEqual([]);
  });

  it('is right after its rules were loaded again', () => {
    const fleet = rackOf([COUNT]);
    for (const gpu of ['GPU-1', 'GPU-2', 'GPU-3']) fleet.engine.set('critical', fleet.gpu('a', gpu), true);
    fleet.pass(1);
    fleet.watch.setRules([]);
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-1'), false);
    fleet.watch.setRules([COUNT]);
    fleet.pass(1);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(2);
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-2'), false);
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-3'), false);
    fleet.pass(1);
    expect(fleet.engine.told.get('aggregate rack=r1')).toBe(0);
  });

  it('counts a GPU that was moved to another node where it is now', () => {
    const fleet = new WatchedFleet([{ ...COUNT, levels: [{ ...COUNT.levels[0]!, limit: 0 }] }]);
    fleet.groups.set('a', { rack: ['r1'] });
    fleet.groups.set('b', { rack: ['r2'] });
    fleet.tick('a', { 'GPU-1': 1 });
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-1'), true);
    fleet.pass(1);
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=r1']);
    fleet.pass(420, () => fleet.tick('b', { 'GPU-1': 1 }));
    expect(fleet.engine.firing('aggregate')).toEqual([]);
    fleet.engine.set('critical', fleet.gpu('b', 'GPU-1'), true);
    fleet.pass(1);
    expect(fleet.engine.firing('aggregate')).toEqual(['rack=r2']);
  });

  it('leaves GPUs of a node that went an hour ago out of the share', () => {
    const fleet = rackOf([SHARE]);
    fleet.tick('a', { 'GPU-1': 1 });
    fleet.tick('b', { 'GPU-2': 1, 'GPU-3': 1, 'GPU-4': 1 });
    fleet.engine.set('critical', fleet.gpu('a', 'GPU-1'), true);
    fleet.pass(HOUR_S - 10, () => fleet.tick('a', { 'GPU-1': 1 }));
    expect(fleet.engine.firing('share')).toEqual([]);
    fleet.pass(120, () => fleet.tick('a', { 'GPU-1': 1 }));
    expect(fleet.engine.told.get('share rack=r1')).toBe(1);
  });
});

describe('a rule for a series that is absent', () => {
  const RULE = absentRule('gpu_power_watts', 300);
  const BOTH = { 'GPU-1': 1, 'GPU-2': 1 };

  it('tells how long a series of a connected node is missing, and that it came back', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.tick('a', BOTH);
    fleet.pass(300, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-2': undefined }));
    expect(fleet.engine.calls).toBe(0);
    fleet.pass(1, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-2': undefined }));
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
    expect(fleet.engine.told.get('absent a GPU-2')).toBe(301);
    fleet.pass(1, () => fleet.tick('a', BOTH));
    expect(fleet.engine.firing('absent')).toEqual([]);
    expect([...fleet.engine.told.keys()]).toEqual(['absent a GPU-2']);
  });

  it('says nothing of a series that was never there', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.pass(400, () => fleet.tick('a', { 'GPU-1': undefined }));
    expect(fleet.engine.calls).toBe(0);
  });

  it('says nothing while the node is away, nor when it is just back', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.tick('a', BOTH);
    fleet.pass(10, () => fleet.tick('a', BOTH));
    fleet.away.add('a');
    fleet.pass(1_000);
    fleet.away.delete('a');
    fleet.pass(10);
    expect(fleet.engine.calls).toBe(0);
    fleet.pass(300);
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-1', 'a GPU-2']);
  });

  it('says nothing where this process itself was stopped', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.tick('a', BOTH);
    fleet.pass(1);
    fleet.clock.ms += 3_000_000;
    fleet.pass(10);
    expect(fleet.engine.calls).toBe(0);
  });

  it('counts a series that a new dictionary dropped as absent, for as long as the GPU is there, and a day at most', () => {
    const fleet = new WatchedFleet([RULE]);
    const tick = () => fleet.tick('a', { 'GPU-1': 40, 'GPU-2': 40 }, 'gpu_temperature_celsius');
    fleet.tick('a', BOTH);
    fleet.pass(310, () => {
      fleet.tick('a', { 'GPU-1': 1 });
      tick();
    });
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
    fleet.pass(2 * HOUR_S, tick);
    expect(fleet.engine.firing('absent')).toContain('a GPU-2');
    fleet.pass(22 * HOUR_S + 120, tick);
    expect(fleet.engine.firing('absent')).not.toContain('a GPU-2');
  });

  it('lets go of a GPU that was replaced after an hour', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.tick('a', BOTH);
    fleet.pass(310, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-9': 1 }));
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
    fleet.pass(HOUR_S, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-9': 1 }));
    expect(fleet.engine.firing('absent')).toEqual([]);
  });

  it('of an earlier run resolves after an hour if the series does not come back, not while the node is away', () => {
    const fleet = new WatchedFleet([]);
    fleet.engine.set('absent', fleet.gpu('a', 'GPU-2'), true);
    fleet.watch.setRules([RULE]);
    fleet.away.add('a');
    fleet.pass(2 * HOUR_S);
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
    fleet.away.delete('a');
    fleet.pass(HOUR_S - 60, () => fleet.tick('a', { 'GPU-1': 1 }));
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
    fleet.pass(180, () => fleet.tick('a', { 'GPU-1': 1 }));
    expect(fleet.engine.firing('absent')).toEqual([]);
  });

  it('still knows, after its rules were loaded again, what was there', () => {
    const fleet = new WatchedFleet([RULE]);
    fleet.tick('a', BOTH);
    fleet.pass(200, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-2': undefined }));
    fleet.watch.setRules([{ ...RULE, summary: 'in other words' }]);
    fleet.pass(102, () => fleet.tick('a', { 'GPU-1': 1, 'GPU-2': undefined }));
    expect(fleet.engine.firing('absent')).toEqual(['a GPU-2']);
  });
});

describe('what absent and aggregate rules keep', () => {
  it('is bounded: series, groups, GPUs and nodes beyond the limits are counted and not looked at', async () => {
    const fleet = new WatchedFleet([metricRule('sum', 'node', 0), absentRule('gpu_power_watts', 5)], {
      limits: { nodes: 3, gpus: 3, series: 3, groups: 2 },
    });
    fleet.pass(1, () => {
      for (const node of ['a', 'b', 'c', 'd']) fleet.tick(node, { [`GPU-${node}1`]: 1, [`GPU-${node}2`]: 1 });
    });
    const metrics = await fleet.registry.metrics();
    expect(metrics).toMatch(/gpufleet_alert_watch_refused_total\{what="nodes"\} 1\n/);
    expect(metrics).toMatch(/gpufleet_alert_watch_refused_total\{what="series"\} 3\n/);
    expect(metrics).toMatch(/gpufleet_alert_watch_refused_total\{what="gpus"\} 3\n/);
    expect(metrics).toMatch(/gpufleet_alert_watch_refused_total\{what="groups"\} 1\n/);
    expect(metrics).toMatch(/gpufleet_alert_watch_kept\{what="series"\} 3\n/);
    expect([...fleet.engine.told.keys()].sort()).toEqual(['aggregate a', 'aggregate b']);
  });

  it('is given back when nodes have gone, so that a fleet that is replaced over the years fits', async () => {
    const limits = { nodes: 2, gpus: 2, series: 2, groups: 2 };
    const fleet = new WatchedFleet([metricRule('sum', 'node', 0), absentRule('gpu_power_watts', 5)], {
      limits,
    });
    for (let year = 0; year < 3; year++) {
      const nodes = [`old-${year}`, `new-${year}`];
      fleet.pass(10, () => {
        for (const node of nodes) fleet.tick(node, { [`GPU-${node}`]: 1 });
      });
      expect(fleet.engine.told.get(`aggregate new-${year}`)).toBe(1);
      for (const node of nodes) fleet.away.add(node);
      fleet.pass(HOUR_S + 180);
    }
    expect(await fleet.registry.metrics()).not.toMatch(/gpufleet_alert_watch_refused_total\{what=/);
  });

  it('judges many at once in turns: a fleet whose exporter stops does not stop the evaluation', () => {
    const fleet = new WatchedFleet([absentRule('gpu_power_watts', 5)]);
    const values = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`GPU-${i}`, 1]));
    fleet.tick('a', values);
    fleet.pass(5);
    fleet.pass(1);
    expect(fleet.engine.calls).toBe(2_000);
    fleet.pass(1);
    expect(fleet.engine.firing('absent')).toHaveLength(3_000);
  });
});
