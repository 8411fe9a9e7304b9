import { expect, it } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { type AlertingInputs, alertingInputs } from '../../aggregator/alerting-inputs.ts';
import type { Assessment } from '../../aggregator/assessment.ts';
import type { OperatorState } from '../../aggregator/health/states/operator-state.ts';
import { NodeMarks } from '../../aggregator/node-marks.ts';

/** Two nodes of pool a, one of b, and one without; and what was marked. */
function inputs(marked: OperatorState[] = []) {
  const seen = { monotonic: 0, looks: 0, cleared: [] as string[] };
  const clock = { now: () => 1, monotonic: () => seen.monotonic };
  const pools: Record<string, string> = { a1: 'a', a2: 'a', b1: 'b', m1: 'a' };
  const nodes = ['a1', 'a2', 'b1', 'x1'];
  const latest = {
    find: (_: string, node: string) =>
      nodes.includes(node) ? { source: { cluster: 'east', node }, connected: node !== 'a2' } : undefined,
    nodes: () => {
      seen.looks++;
      return nodes.map((node) => ({ source: { cluster: 'east', node } }));
    },
  } as unknown as AlertingInputs['latest'];
  const operators = {
    of: ({ node }: { node: string }) => marked.find((one) => one.node === node),
    list: () => marked,
    clear: async ({ node }: { node: string }) => {
      const [gone] = marked.splice(
        marked.findIndex((one) => one.node === node),
        1,
      );
      return gone!;
    },
  } as unknown as Assessment['operators'];
  const marks = new NodeMarks({
    ...{ latest, clock, assessment: { operators, tell: () => {} } },
    onCleared: ({ node }, by) => seen.cleared.push(`${node} by ${by}`),
  });
  const assets = {
    poolOf: ({ node }: { node: string }) => pools[node],
  } as unknown as AlertingInputs['assets'];
  const { fleet } = alertingInputs({
    ...{ assets, latest, marks, clock, logger: silentLogger },
    ingest: () => undefined,
  });
  return { fleet, marks, marked, seen };
}

const mark = (node: string, state: OperatorState['state']): OperatorState => ({
  ...{ cluster: 'east', node, state, by: 'ada', why: 'board', sinceMs: 1 },
});

it('counts the nodes of a pool, and those of it that operators took out', () => {
  const { fleet } = inputs([mark('a2', 'drained'), mark('a1', 'degraded'), mark('m1', 'maintenance')]);
  expect(['a', 'b', '', 'c'].map((pool) => fleet.nodesOfPool('east', pool))).toEqual([2, 1, 1, 0]);
  expect(fleet.nodesOfPool('west', 'a')).toBe(0);
  // Also one that no agent has said anything of since the start.
  expect([...fleet.outOtherwise('east', 'a')]).toEqual(['a2', 'm1']);
  expect([...fleet.outOtherwise('east', 'b')]).toEqual([]);
});

// Lost without it: in a storm thousands of actions wait, and each would walk the whole fleet several times a second.
it('walks the fleet once a second, however many ask', () => {
  const { fleet, marked, seen } = inputs();
  for (let i = 0; i < 100; i++) fleet.nodesOfPool('east', 'a');
  expect(seen.looks).toBe(1);
  marked.push(mark('a1', 'drained'));
  seen.monotonic = 1_000;
  expect([...fleet.outOtherwise('east', 'a')]).toEqual(['a1']);
  expect(seen.looks).toBe(2);
});

// Lost without it: the undo of one policy's mark gives away the places that others hold of a node that is still out.
it('tells of a node that is back in service where a person says so, not where an action takes its own mark away', async () => {
  const { fleet, marks, seen } = inputs([mark('a1', 'degraded'), mark('a2', 'degraded')]);
  await fleet.executorDeps.marks.clear('east', 'a1');
  expect(marks.list().map(({ node }) => node)).toEqual(['a2']);
  expect(seen.cleared).toEqual([]);
  await marks.clear({ cluster: 'east', node: 'a2' }, 'new board', 'ada');
  expect(seen.cleared).toEqual(['a2 by ada']);
});

it('says to which aggregator a node is connected, and that a command cannot be asked before anybody is', async () => {
  const { agents } = inputs().fleet.executorDeps;
  expect(['a1', 'a2', 'nobody'].map((node) => agents.connected('east', node))).toEqual([true, false, false]);
  const order = { id: 's-0', name: 'reset-gpu', args: {} };
  expect(await agents.command('east', 'a1', order, AbortSignal.timeout(1_000))).toMatchObject({
    outcome: 'away',
  });
});
