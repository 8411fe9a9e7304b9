import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthScope, InjectAnomalyRequestSchema } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Assessment } from '../../aggregator/assessment.ts';
import { createHealthView } from '../../aggregator/health-view.ts';
import { NodeMarks } from '../../aggregator/node-marks.ts';
import { LatestTable } from '../../aggregator/store/latest.ts';
import { Validation } from '../../aggregator/validate/validation.ts';
import { blockOf, dictionaryOf, gpuLabels, series } from './alerts/block-of.ts';
import { AssessedNode, NODE } from './assessed-node.ts';

const EVERYTHING = { node: '', gpuUuid: '', includeEnded: false };
const ALL_CHANGES = {
  node: '',
  gpuUuid: '',
  to: HealthState.UNSPECIFIED,
  fromMs: undefined,
  toMs: undefined,
};

/** The view over a real assessment of one node, which has an agent unless `unseen`. */
async function viewed({ unseen = false } = {}) {
  const node = await AssessedNode.open({ gpus: 4 });
  const { clock } = node;
  const registry = createRegistry();
  const latest = new LatestTable({ clock, registry });
  if (!unseen)
    latest.connected({ source: NODE, address: '', agentVersion: '', machineId: 'm', clockSkewSeconds: 0 });
  const settings = { enabled: true, future_tolerance: 60_000, past_tolerance: 3_600_000 };
  const validation = new Validation({ settings, clock, registry, onRejected: () => {} });
  node.show = (block) => {
    latest.apply(block);
    return block;
  };
  const view = () =>
    createHealthView(node.assessment, validation, latest, marksOf(node.assessment, latest, clock), clock);
  return { node, view, validation, clock, [Symbol.asyncDispose]: () => node[Symbol.asyncDispose]() };
}

const marksOf = (assessment: Assessment, latest: LatestTable, clock: Clock): NodeMarks =>
  new NodeMarks({ assessment, latest, clock, onCleared: () => {} });

const order = (of: { readonly uuid?: string; readonly node?: string; readonly gpu?: string }) =>
  create(InjectAnomalyRequestSchema, of);

describe('health as the API shows it', () => {
  it('a node is as good as its worst GPU, and names it; a fleet without pools has nodes as its parts', async () => {
    await using bed = await viewed();
    const { node, view } = bed;
    await node.pass(2);
    await node.befall('off_the_bus', 1);
    const { health, parts } = view().scope(HealthScope.NODE, 'n')!;
    expect(health).toMatchObject({ name: 'n', gpuCount: 4, healthy: 3, critical: 1 });
    expect(health.score).toBeLessThan(15);
    expect(health.worst).toMatchObject([
      { node: 'n', gpu: '1', uuid: node.uuid(1), state: HealthState.CRITICAL },
    ]);
    const points = health.worst.reduce((sum, one) => sum + one.points, health.otherPoints);
    expect(points + health.score).toBeCloseTo(100, 9);
    expect(parts).toEqual([]);

    const fleet = view().scope(HealthScope.FLEET, '')!;
    expect(fleet.parts).toMatchObject([{ scope: HealthScope.NODE, name: 'n', critical: 1 }]);
    expect(view().scope(HealthScope.NODE, 'other')).toBeUndefined();
    expect(view().scope(HealthScope.POOL, 'other')).toBeUndefined();
  });

  it('transitions are filtered by GPU and state, with their why, and come page by page', async () => {
    await using bed = await viewed();
    const { node, view } = bed;
    await node.pass(2);
    await node.befall('off_the_bus', 1);
    const critical = await view().transitions({ ...ALL_CHANGES, to: HealthState.CRITICAL }, 10, '');
    expect(critical.transitions).toMatchObject([
      { node: 'n', gpu: '1', from: HealthState.HEALTHY, cause: 'cap', why: expect.stringMatching(/^Xid 79/) },
    ]);
    const first = await view().transitions(ALL_CHANGES, 3, '');
    const rest = await view().transitions(ALL_CHANGES, 3, first.next);
    expect([first.transitions.length, rest.transitions.length, rest.next]).toEqual([3, 2, '']);
    expect(
      (await view().transitions({ ...ALL_CHANGES, gpuUuid: node.uuid(0) }, 10, '')).transitions,
    ).toHaveLength(1);
  });

  it('a value that cannot be true is listed with its range and counted', async () => {
    await using bed = await viewed();
    const dictionary = dictionaryOf([series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }))]);
    bed.validation.check(blockOf(dictionary, bed.clock.ms, [4e9], { source: NODE }));
    const { samples, totals } = bed.view().rejected('');
    expect(samples).toMatchObject([
      { node: 'n', metric: 'gpu_temperature_celsius', value: 4e9, reason: 'out_of_range', count: 1 },
    ]);
    expect(totals).toEqual({ out_of_range: 1 });
    expect(bed.view().rejected('other').samples).toEqual([]);
  });
});

describe('what an operator orders', () => {
  it('a test is a test, also on a GPU that has a real anomaly: neither hides the other', async () => {
    await using bed = await viewed();
    const { node, view } = bed;
    await node.pass(120);
    await node.befall('straggler', 1);
    await node.pass(10);
    expect(view().anomalies(EVERYTHING)).toHaveLength(1);
    const injected = view().inject(order({ uuid: node.uuid(1) }), 'ann');
    expect(injected).toMatchObject({ test: true, strength: 2, gpu: '1' });
    expect(injected.text).toBe('Test: GPU 1: gpu_temperature_celsius, injected by an operator');
    const listed = view()
      .anomalies({ ...EVERYTHING, node: 'n' })
      .map(({ message }) => message().test);
    expect(listed.sort()).toEqual([false, true]);
    expect(node.told.filter(({ attributes }) => attributes.test)).toMatchObject([
      { type: 'anomaly', gpu: '1', attributes: { phase: 'begin', test: 'true' } },
    ]);

    // Asked for a minute, it is over after a minute.
    await node.pass(2);
    expect(
      view()
        .anomalies(EVERYTHING)
        .map(({ message }) => message().test),
    ).toEqual([false]);
    expect(() => view().inject(order({ node: 'n', gpu: '9' }), 'ann')).toThrow(
      /GPU 9 of node n is not heard/,
    );
  });

  it('a GPU that was lost is cleared by who looked at it, and who and why are on record', async () => {
    await using bed = await viewed();
    const { node, view } = bed;
    await node.pass(2);
    await node.befall('off_the_bus', 1, { duration: 30_000 });
    await node.pass(2);
    const uuid = node.uuid(1);
    expect(() => view().clear(uuid, 'prayer', 'it helps', 'ann')).toThrow(/cause must be one of/);
    expect(() => view().clear('GPU-x', 'operator', 'why', 'ann')).toThrow(/was not seen/);
    expect(view().clear(uuid, 'operator', 'reseated', 'ann').state).toBe(HealthState.DEGRADED);
    expect(node.told.slice(-2)).toMatchObject([
      { type: 'operator_clear', gpu: '1', text: 'reseated', attributes: { by: 'ann' } },
      {
        type: 'health_state',
        text: 'GPU 1 is degraded: an operator cleared it; the score 100 is at least 60',
        attributes: { by: 'ann', cause: 'operator' },
      },
    ]);
  });

  it('a mark is taken, told and taken away, also of a node that is off since a restart', async () => {
    await using bed = await viewed();
    const { node, view } = bed;
    const mark = { node: 'n', mark: 'drained', why: 'a new fan', by: 'ann', untilMs: undefined };
    await expect(view().mark({ ...mark, node: 'other' })).rejects.toThrow(/no agent of that name was seen/);
    await expect(view().mark({ ...mark, mark: 'asleep' })).rejects.toThrow(/must be one of/);
    expect(await view().mark(mark)).toMatchObject({ node: 'n', mark: 'drained', by: 'ann' });
    expect(view().marks()).toHaveLength(1);

    await node.restart(60);
    const empty = new LatestTable({ clock: node.clock, registry: createRegistry() });
    const marks = marksOf(node.assessment, empty, node.clock);
    const gone = createHealthView(node.assessment, bed.validation, empty, marks, node.clock);
    await gone.unmark('n', 'the fan turns', 'ben');
    expect(gone.marks()).toEqual([]);
    await expect(gone.unmark('n', 'again', 'ben')).rejects.toThrow(/no agent of that name was seen/);
    expect(node.told).toMatchObject([
      { type: 'node_mark', text: 'the node is marked drained: a new fan', attributes: { by: 'ann' } },
      { type: 'node_mark', text: 'the node is no longer marked: the fan turns', attributes: { by: 'ben' } },
    ]);
  });
});
