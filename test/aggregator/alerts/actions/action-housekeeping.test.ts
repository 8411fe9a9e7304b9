import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { ActionDecisions } from '../../../../aggregator/alerts/actions/action-decisions.ts';
import type { ActionDocument } from '../../../../aggregator/alerts/actions/action-document.ts';
import { ActionHousekeeping } from '../../../../aggregator/alerts/actions/action-housekeeping.ts';
import { ActionIntake } from '../../../../aggregator/alerts/actions/action-intake.ts';
import { ActionMetrics } from '../../../../aggregator/alerts/actions/action-metrics.ts';
import { ActionTable } from '../../../../aggregator/alerts/actions/action-table.ts';
import { NodeTurns } from '../../../../aggregator/alerts/actions/node-turns.ts';
import type { OpenPolicy } from '../../../../aggregator/alerts/actions/policy.ts';
import { PoolShares } from '../../../../aggregator/alerts/actions/pool-shares.ts';
import { criticalAlert, JumpingClock, resolved, ScriptedFeed } from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';

const HOUR_MS = 3_600_000;
const DRAIN: OpenPolicy = {
  name: 'drain',
  matches: () => true,
  forMs: 0,
  mode: 'live',
  approval: 'none',
  maxShare: 0.5,
  maxNodes: 10,
  coolDownMs: HOUR_MS,
  window: undefined,
  undo: 'by_hand',
  steps: [{ kind: 'drain', settings: true, takesOut: true, undoesUnsure: true }],
  executors: [],
};

const BOOK: ReadonlyMap<string, OpenPolicy> = new Map([['drain', DRAIN]]);

function house(
  limits: { maxOpen?: number; maxKept?: number; inService?: () => boolean; poolOf?: () => string } = {},
) {
  const control = new MemoryBucket().client();
  const poolOf = limits.poolOf ?? (() => 'a');
  const clock = new JumpingClock();
  const registry = createRegistry();
  const feed = new ScriptedFeed();
  const table = new ActionTable(control, clock);
  const shares = new PoolShares({ control, nodesOfPool: () => 20 });
  const turns = new NodeTurns(control, table);
  const metrics = new ActionMetrics(registry, table, shares);
  const intake = new ActionIntake({ table, policies: BOOK, poolOf, clock, metrics, ...limits });
  const decisions = new ActionDecisions({ table, shares, clock, metrics });
  const housekeeping = new ActionHousekeeping({
    ...{ table, shares, turns, intake, decisions, clock, logger: silentLogger, ...limits },
    policies: BOOK,
    poolOf,
    alerts: () => feed.alerts(),
    inService: limits.inService ?? (() => undefined),
    ready: () => true,
  });
  /** Brings an action to its end by hand, as a driver would. */
  const end = async (node: string, more: Partial<ActionDocument> = {}) => {
    await intake.take(criticalAlert(node, clock.now()));
    const { id } = table.values().find(({ target }) => target.node === node)!;
    return table.change(id, (action) => ({ ...action, state: 'done', outbox: [], ...more }));
  };
  return { control, clock, registry, feed, table, shares, turns, intake, housekeeping, end };
}

describe('housekeeping of actions', () => {
  it('makes no more actions than there is room for, and comes back to the alerts that still fire', async () => {
    const { table, intake, feed, housekeeping, registry, clock } = house({ maxOpen: 2 });
    const alerts = ['n1', 'n2', 'n3'].map((node) => criticalAlert(node, clock.now()));
    for (const alert of alerts) {
      feed.say(alert);
      await intake.take(alert);
    }
    expect(table.size).toBe(2);
    expect(await registry.getSingleMetricAsString('gpufleet_actions_refused_total')).toContain(
      '"too_many"} 1',
    );
    const [first] = table.values();
    await table.change(first!.id, (action) => ({ ...action, state: 'cancelled', outbox: [] }));
    await housekeeping.round();
    expect(table.values().map(({ target }) => target.node)).toEqual(['n1', 'n2', 'n3']);
  });

  it('tells an action of an alert that resolved unheard', async () => {
    const { table, intake, feed, housekeeping, clock } = house();
    const alert = criticalAlert('n1', clock.now());
    await intake.take(alert);
    feed.say(resolved(alert, clock.now()));
    await housekeeping.round();
    expect(table.values()[0]!.alert.resolvedAtMs).toBeGreaterThan(0);
  });

  it('frees a place whose action gave it up or is gone, and leaves one that is held', async () => {
    const { shares, housekeeping, end } = house();
    const held = await end('n1', { holds: true });
    const left = await end('n2');
    await shares.reserve(held!, DRAIN);
    await shares.reserve(left!, DRAIN);
    await shares.reserve({ ...left!, id: 'gone', target: { ...left!.target, node: 'n3' } }, DRAIN);
    await housekeeping.round();
    expect(shares.pools().map(({ nodes }) => Object.keys(nodes))).toEqual([['n1']]);
  });

  it('frees the place of a node that its scheduler has had back for a while, and not at the first word', async () => {
    const { shares, housekeeping, end, clock, table } = house({ inService: () => true });
    const held = await end('n1', { holds: true });
    await shares.reserve(held!, DRAIN);
    await housekeeping.round();
    await housekeeping.round();
    expect(shares.holds(held!)).toBe(true);
    clock.offsetMs += HOUR_MS;
    await housekeeping.round();
    expect(shares.holds(held!)).toBe(true);
    await housekeeping.round();
    expect(shares.holds(held!)).toBe(false);
    expect(table.get(held!.id)).toMatchObject({ holds: false, state: 'done' });
  });

  it('keeps a bounded number of ended actions: those that did something, and hold a node, for longest', async () => {
    const { table, housekeeping, end, clock } = house({ maxKept: 2 });
    await end('held', { holds: true, updatedAtMs: 0 });
    await end('acted', { actedAtMs: 1 });
    for (const node of ['n1', 'n2', 'n3']) await end(node, { state: 'cancelled' });
    await housekeeping.round();
    const kept = table.values().map(({ target }) => target.node);
    expect(kept).toHaveLength(3);
    expect(kept).toContain('held');
    expect(kept).toContain('acted');
    clock.offsetMs += 31 * 24 * HOUR_MS;
    await housekeeping.round();
    expect(table.values().map(({ target }) => target.node)).toEqual(['held']);
  });

  it('carries the place of a node to the pool that it moved to, which would else lose one more than its share', async () => {
    let pool = 'a';
    const it = house({ poolOf: () => pool });
    const out = (await it.end('n1', { holds: true }))!;
    await it.shares.reserve(out, DRAIN);
    await it.intake.take(criticalAlert('n2', it.clock.now()));
    pool = 'b';
    await it.housekeeping.round();
    expect(it.shares.pools()).toEqual([
      { cluster: 'east', pool: 'a', nodes: {} },
      { cluster: 'east', pool: 'b', nodes: { n1: [out.id] } },
    ]);
    // One that has not begun is judged by the pool that its node is in.
    expect(it.table.values().map((action) => action.pool)).toEqual(['b', 'b']);
    expect(it.table.get(out.id)!.outbox).toMatchObject([{ what: 'action.move' }]);
    // Where the pool is not known it stays what it was.
    pool = '';
    await it.housekeeping.round();
    expect(it.shares.holds(it.table.get(out.id)!)).toBe(true);
    expect(it.table.get(out.id)!.pool).toBe('b');
  });

  it('forgets whose turn it was once the cool-down is over', async () => {
    const { control, turns, housekeeping, end, clock } = house();
    const ended = await end('n1', { actedAtMs: clock.now() });
    await turns.take(ended!, DRAIN, clock.now());
    await housekeeping.round();
    expect(control.entries('turn/')).toHaveLength(1);
    clock.offsetMs += 2 * HOUR_MS;
    await housekeeping.round();
    expect(control.entries('turn/')).toHaveLength(0);
  });
});
