import { expect, test } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { AlertTable } from '../../../aggregator/alerts/alert-table.ts';
import { OldestFirst } from '../../../aggregator/alerts/oldest-first.ts';
import { trackAlert } from '../../../aggregator/alerts/tracked-alert.ts';
import { alertOf } from './alert-of.ts';
import { hot, rulesOf } from './engine-of.ts';

const [RULE] = rulesOf(hot());

function put(table: AlertTable, id: string, state: AlertState, node = 'n1') {
  const tracked = trackAlert(RULE!, { ...alertOf('0', 1, { state, node }), id });
  return { tracked, added: table.add(tracked) };
}

test('the oldest resolved alert of a full node goes, and none of another node', () => {
  const table = new AlertTable(10, 2);
  put(table, 'other', AlertState.RESOLVED, 'n2');
  put(table, 'a', AlertState.RESOLVED);
  put(table, 'b', AlertState.RESOLVED);
  put(table, 'c', AlertState.FIRING);
  expect(['other', 'a', 'b', 'c'].filter((id) => table.get(id))).toEqual(['other', 'b', 'c']);
  put(table, 'd', AlertState.FIRING);
  expect(put(table, 'e', AlertState.FIRING).added).toBe(false);
  expect(table.size).toBe(3);
});

// Racks and pools stand under no node: a fleet has more of them than a node may have alerts.
test('alerts of groups of nodes are bound by the table alone', () => {
  const table = new AlertTable(4, 1);
  const added = ['a', 'b', 'c', 'd', 'e'].map((id) => put(table, id, AlertState.FIRING, '').added);
  expect(added).toEqual([true, true, true, true, false]);
});

test('what fires is counted by its severity as it comes and goes', () => {
  const table = new AlertTable(10, 10);
  const { tracked } = put(table, 'a', AlertState.FIRING);
  put(table, 'b', AlertState.FIRING, 'n2');
  expect(table.firing('critical')).toBe(2);
  tracked.alert = { ...tracked.alert, severity: Severity.WARNING };
  table.settle(tracked);
  expect([table.firing('critical'), table.firing('warning')]).toEqual([1, 1]);
  tracked.alert = { ...tracked.alert, state: AlertState.RESOLVED };
  table.settle(tracked);
  table.delete('b');
  expect([table.firing('critical'), table.firing('warning')]).toEqual([0, 0]);
});

test('of the resolved ones, one that resolved again is the newest', () => {
  const ids = new OldestFirst();
  for (const id of ['a', 'b', 'c', 'a', 'd']) ids.add(id);
  ids.delete('c');
  expect([ids.take(), ids.take()]).toEqual(['b', 'a']);
  ids.add('e');
  expect([ids.take(), ids.take(), ids.take()]).toEqual(['d', 'e', undefined]);
  // Also after it was empty: the queue begins anew.
  ids.add('f');
  expect([ids.has('f'), ids.take(), ids.has('f')]).toEqual([true, 'f', false]);
});
