import { describe, expect, test } from 'vitest';
import { sharedCauses } from '../../../../aggregator/health/patterns/correlation.ts';
import type { PatternEvent } from '../../../../aggregator/health/patterns/event-journal.ts';
import { sharedCausePattern } from '../../../../aggregator/health/patterns/pattern-sentences.ts';
import { type GroupsOfNode, Topology } from '../../../../aggregator/health/patterns/topology.ts';
import { atOnce } from '../../../../aggregator/health/work.ts';
import { seededRandom } from '../../../support/random.ts';

const T0 = 1_760_000_000_000;
const NODES = 512;
const options = { gpusOf: () => 8 };

/** Racks of 8 in a row of 8, a PDU for 8 nodes across two racks, a switch for 16 nodes by number, zones of 64. */
function groupsOf(node: number): GroupsOfNode {
  const rack = node >> 3;
  return {
    rack: [`r${rack}`],
    pdu: [`p${(rack >> 1) * 2 + (node & 1)}`],
    switch: [`s${node % 32}`],
    cooling_zone: [`z${rack >> 3}`],
    row: [`w${rack >> 4}`],
  };
}

const name = (node: number): string => `n${node}`;
const topology = atOnce(
  Topology.of(Array.from({ length: NODES }, (_, node) => [`prod/${name(node)}`, groupsOf(node)] as const)),
);

const event = (node: number, gpu: number, ms: number, code = 'power brake'): PatternEvent => ({
  ms: T0 + ms,
  cluster: 'prod',
  node: name(node),
  gpu: `GPU-${node}-${gpu}`,
  code,
});
const ordered = (events: PatternEvent[]): PatternEvent[] => events.sort((a, b) => a.ms - b.ms);

test('6 of 8 nodes on a PDU, in words', () => {
  const events = [0, 2, 4, 6, 8, 10].map((node, i) => event(node, 1, i * 8000));
  const causes = atOnce(sharedCauses(events, topology, options));
  expect(causes.map(sharedCausePattern)).toMatchObject([
    {
      scope: 'pdu',
      sentence: '6 of 8 nodes on PDU p0 had power brake within 40 s: the PDU rather than the GPUs.',
      figures: { hit: 6, of: 8, span_seconds: 40 },
    },
  ]);
});

test('all GPUs of one node are the node', () => {
  const events = [0, 1, 2, 3, 4, 5].map((gpu) => event(7, gpu, gpu * 100, 'gpu_lost'));
  expect(atOnce(sharedCauses(events, topology, options)).map(sharedCausePattern)).toMatchObject([
    {
      scope: 'node',
      sentence:
        '6 of 8 GPUs of node prod/n7 had gpu lost within a second: the node rather than the single GPUs.',
    },
  ]);
});

test('most of the fleet is the fleet, two incidents in one window are two', () => {
  const all = Array.from({ length: 400 }, (_, node) => event(node, 0, node, 'clock_step'));
  expect(atOnce(sharedCauses(all, topology, options))).toMatchObject([
    { level: 'fleet', hit: 400, of: NODES },
  ]);
  const two = ordered([
    ...[0, 1, 2, 3, 4, 5, 6].map((node) => event(node, 0, node * 500)),
    ...[240, 241, 242, 243, 244, 245].map((node) => event(node, 0, node * 10)),
  ]);
  const found = atOnce(sharedCauses(two, topology, options));
  expect(found.map(({ level, name: group }) => `${level} ${group}`).sort()).toEqual(['rack r0', 'rack r30']);
});

test('groups of the same nodes are named together', () => {
  const twin = atOnce(
    Topology.of(
      Array.from(
        { length: 64 },
        (_, n) => [`prod/n${n}`, { pdu: [`p${n >> 3}`], rack: [`r${n >> 3}`] }] as const,
      ),
    ),
  );
  const events = [0, 1, 2, 3, 4, 5].map((node) => event(node, 0, node));
  expect(atOnce(sharedCauses(events, twin, options))).toMatchObject([
    { level: 'pdu', name: 'p0', alternatives: ['rack r0'] },
  ]);
});

test('nodes that the inventory does not know do not count', () => {
  const events = Array.from({ length: 9 }, (_, i) => event(NODES + i, 0, i));
  expect(atOnce(sharedCauses(events, topology, options))).toEqual([]);
});

describe('on seeded incidents', () => {
  const LEVELS = ['rack', 'pdu', 'switch', 'cooling_zone', 'row'] as const;

  // Lost without it: a crew opens eight servers for one breaker.
  test('the right group is named in at least 95 of 100, among random faults', () => {
    const random = seededRandom(17);
    let right = 0;
    const cases = 400;
    for (let i = 0; i < cases; i++) {
      const level = LEVELS[i % LEVELS.length]!;
      const chosen = groupsOf(Math.floor(random() * NODES))[level]![0]!;
      const share = 0.6 + random() * 0.4;
      const events: PatternEvent[] = [];
      for (let node = 0; node < NODES; node++) {
        const member = groupsOf(node)[level]!.includes(chosen);
        if (member ? random() < share : random() < 0.002)
          events.push(event(node, Math.floor(random() * 8), random() * 40_000));
      }
      const causes = atOnce(sharedCauses(ordered(events), topology, options));
      if (causes.length === 1 && causes[0]!.level === level && causes[0]!.name === chosen) right++;
    }
    console.log(`shared causes: ${((right / cases) * 100).toFixed(1)} % named rightly of ${cases}`);
    expect(right / cases).toBeGreaterThanOrEqual(0.95);
  });

  // Lost without it: coincidences send people to racks that are fine.
  test('faults at random are claimed for a group in at most 1 of 100 windows', () => {
    const random = seededRandom(23);
    let claimed = 0;
    const windows = 3000;
    for (let i = 0; i < windows; i++) {
      const count = 3 + Math.floor(random() * 40);
      const events = Array.from({ length: count }, () =>
        event(Math.floor(random() * NODES), Math.floor(random() * 8), random() * 50_000),
      );
      if (atOnce(sharedCauses(ordered(events), topology, options)).length > 0) claimed++;
    }
    console.log(`shared causes: ${claimed} false claims in ${windows} windows of random faults`);
    expect(claimed / windows).toBeLessThanOrEqual(0.01);
  });
});
