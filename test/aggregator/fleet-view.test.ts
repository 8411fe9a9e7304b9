import { readFileSync } from 'node:fs';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test, vi } from 'vitest';
import { NodeState, SampleState } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { AlertEngine } from '../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../aggregator/alerts/rules/rules-file.ts';
import { type AlertAccess, createFleetView, type FleetLists } from '../../aggregator/fleet-view.ts';
import { HealthEngine } from '../../aggregator/health/health-engine.ts';
import { DeadLetters } from '../../aggregator/ledger/dead-letters.ts';
import { Ledger } from '../../aggregator/ledger/ledger.ts';
import { pageOf } from '../../aggregator/query/paging.ts';
import { LatestTable } from '../../aggregator/store/latest.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  START_MS,
  series,
  xidEvent,
} from './alerts/block-of.ts';
import { FakeShelf } from './ledger/open-shelf.ts';
import { FakeAlerting } from './query/fake-alerting.ts';
import { FakeHealth } from './query/fake-health.ts';

const SHIPPED = new URL('../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);

const NO_LISTS: FleetLists = {
  ledger: { list: () => [] },
  letters: { list: () => [], replay: () => Promise.resolve({ accepted: 0, refused: 0 }) },
  replay: () => Promise.resolve({ id: '', agents: 0 }),
  statusOf: () => undefined,
};

/** As the aggregator gives it, without what mutes alerts. */
const accessOf = (engine: AlertEngine, clock: ManualClock): AlertAccess => ({
  engine,
  view: new FakeAlerting(),
  shown: (alert) => alert,
  resolve: async (id, comment) => engine.resolve(id, comment, clock.now()),
});

function viewOf() {
  const clock = new ManualClock();
  const registry = createRegistry();
  const latest = new LatestTable({ clock, registry });
  const health = new HealthEngine({ clock, registry });
  const { rules } = parseRules(readFileSync(SHIPPED, 'utf8'), 'the shipped rules');
  const alerts = new AlertEngine({ rules, clock, registry });
  const source: Source = { cluster: 'east', node: 'a', externalLabels: [['rack', '7']] };
  latest.connected({
    source,
    address: '10.0.0.1:5',
    agentVersion: '1.2',
    machineId: 'm',
    clockSkewSeconds: 0.5,
  });
  return {
    view: createFleetView(latest, accessOf(alerts, clock), health, NO_LISTS, new FakeHealth()),
    latest,
    source,
    alerts,
    health,
    clock,
  };
}

/** Two GPUs; the first has a MIG instance and says who made it. */
const DICTIONARY = dictionaryOf([
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'memory' })),
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
  series('gpu_memory_used_bytes', gpuLabels(0, { mig_id: '3' })),
  series('gpu_memory_used_bytes', gpuLabels(0)),
  series('gpu_power_watts', gpuLabels(0)),
  series('gpu_info', gpuLabels(0, { driver_version: '570.1' })),
  series('gpu_power_watts', gpuLabels(1)),
  series('node_load1', []),
]);

// The console's headline is what people see first: a memory sensor's 90 degrees shown as the core's is a false alarm.
test('headline values are those of the whole GPU and the right sensor; what is not present is absent', () => {
  const { view, latest, source } = viewOf();
  latest.apply(blockOf(DICTIONARY, START_MS, [90, 60, 5, 80, 300, 1, undefined, 0.5], { source }));
  const gpu = view.gpu('GPU-0')!.message();
  expect(gpu).toMatchObject({
    cluster: 'east',
    node: 'a',
    index: '0',
    temperatureCelsius: 60,
    memoryUsedBytes: 80,
    powerWatts: 300,
    labels: { rack: '7', driver_version: '570.1' },
  });
  expect(gpu.utilizationRatio).toBeUndefined();
  expect(view.gpu('GPU-1')!.message().powerWatts).toBeUndefined();
  expect(view.gpu('GPU-9')).toBeUndefined();
});

test('a node says who it is, how it is, and how much it has', () => {
  const { view, latest, source } = viewOf();
  expect(view.node('a')!.message().lastSampleAt, 'none before the first tick').toBeUndefined();
  latest.apply(blockOf(DICTIONARY, START_MS, [90, 60, 5, 80, 300, 1, 250, 0.5], { source }));
  expect(view.node('a')!.message()).toMatchObject({
    cluster: 'east',
    name: 'a',
    state: NodeState.UP,
    agentVersion: '1.2',
    clockSkewSeconds: 0.5,
    gpuCount: 2,
    seriesCount: 8,
    firingAlerts: 0,
    labels: { rack: '7' },
  });
  latest.disconnected(source);
  expect(view.node('a')!.state).toBe(NodeState.DOWN);
  expect(view.node('b')).toBeUndefined();
});

test('each sample says which state it is in, and carries identity and external labels', () => {
  const { view, latest, source } = viewOf();
  const block = blockOf(DICTIONARY, START_MS, [90, 60, 5, 80, 300, 1, 250, 0.5], { source });
  block.states.set([
    SlotState.Stale,
    SlotState.Timeout,
    SlotState.Quarantined,
    SlotState.Absent,
    SlotState.NotSupported,
    SlotState.NoPermission,
    SlotState.Present,
    SlotState.GpuLost,
  ]);
  latest.apply(block);
  const rows = [...view.node('a')!.samples()];
  expect(rows.map(({ name, uuid }) => [name, uuid]).at(-1)).toEqual(['node_load1', '']);
  const samples = rows.map((row) => row.message());
  expect(samples.map(({ state, value }) => [state, value])).toEqual([
    [SampleState.STALE, 0],
    [SampleState.TIMEOUT, 0],
    [SampleState.QUARANTINED, 0],
    [SampleState.ABSENT, 0],
    [SampleState.NOT_SUPPORTED, 0],
    [SampleState.NO_PERMISSION, 0],
    [SampleState.PRESENT, 250],
    [SampleState.GPU_LOST, 0],
  ]);
  expect(samples[6]!.labels).toMatchObject({
    cluster: 'east',
    node: 'a',
    rack: '7',
    gpu: '1',
    uuid: 'GPU-1',
  });
  expect([...view.gpu('GPU-1')!.samples()].map(({ value }) => value)).toEqual([250]);
});

test('GPUs are sorted by their key whatever their names are: no page skips one', () => {
  const { view, latest, source } = viewOf();
  const names = ['GPU-c', 'GPU-a', 'GPU-b'].map((uuid) => series('power', [['uuid', uuid]]));
  const indexed = ['10', '9', '0'].map((gpu) =>
    series('power', [
      ['gpu', gpu],
      ['uuid', `GPU-${gpu}`],
    ]),
  );
  latest.apply(blockOf(dictionaryOf([...names, ...indexed]), START_MS, [1, 2, 3, 4, 5, 6], { source }));
  const seen: string[] = [];
  let token = '';
  do {
    const page = pageOf(view.node('a')!.gpus(), (row) => row.key, 1, token);
    seen.push(...page.rows.map(({ uuid }) => uuid));
    token = page.nextPageToken;
  } while (token !== '' && seen.length < 20);
  expect(seen).toEqual(['GPU-0', 'GPU-a', 'GPU-b', 'GPU-c', 'GPU-9', 'GPU-10']);
});

test('alerts are counted for their GPU and node, told to subscribers, and resolved by an operator', async () => {
  const { view, latest, source, alerts } = viewOf();
  latest.apply(blockOf(DICTIONARY, START_MS, [90, 60, 5, 80, 300, 1, 250, 0.5], { source }));
  const heard: string[] = [];
  const subscription = view.subscribe((alert) => heard.push(alert.id));
  alerts.event(source, xidEvent(79, START_MS), false);
  const [alert] = [...view.alerts()];
  expect(heard).toEqual([alert!.id]);
  expect(view.alert(alert!.id)).toBe(alert);
  expect(view.node('a')!.message().firingAlerts).toBe(1);
  expect(view.gpu('GPU-0')!.message().firingAlerts).toBe(1);
  expect(view.gpu('GPU-1')!.message().firingAlerts).toBe(0);
  subscription[Symbol.dispose]();
  expect(await view.resolveAlert(alert!.id, 'replaced', 'mina')).not.toBe('not_found');
  expect(heard, 'nothing after the end of the subscription').toHaveLength(1);
  expect(await view.resolveAlert(alert!.id, 'again', 'mina')).toBe('not_active');
  expect(await view.resolveAlert('none', '', '')).toBe('not_found');
  expect(view.node('a')!.message().firingAlerts).toBe(0);
});

test('two clusters may have a node of one name, and a GPU may have no UUID: alerts are counted where they belong', () => {
  const { view, latest, source, alerts } = viewOf();
  const twin: Source = { cluster: 'west', node: 'a', externalLabels: [] };
  const peer = { address: '', agentVersion: '', machineId: '', clockSkewSeconds: 0 };
  latest.connected({ source: twin, ...peer });
  const unnamed = dictionaryOf([series('power', [['gpu', '0']]), series('power', [['gpu', '1']])]);
  for (const each of [source, twin]) latest.apply(blockOf(unnamed, START_MS, [1, 2], { source: each }));
  alerts.event(twin, { ...xidEvent(79, START_MS, 1), gpuUuid: '' }, false);
  const counts = view
    .nodes()
    .map((row) => [row.message().firingAlerts, ...row.gpus().map((gpu) => gpu.message().firingAlerts)]);
  expect(counts).toEqual([
    [0, 0, 0],
    [1, 0, 1],
  ]);
});

// A page that counts anew for each of its rows stops the event loop for a second in a fleet of 100,000 GPUs.
test('a list counts the alerts once, however many rows it has', () => {
  const { view, latest, source, alerts } = viewOf();
  latest.apply(blockOf(DICTIONARY, START_MS, [90, 60, 5, 80, 300, 1, 250, 0.5], { source }));
  alerts.event(source, xidEvent(79, START_MS), false);
  using counting = vi.spyOn(alerts, 'alerts');
  const rows = view.nodes();
  for (const row of rows) for (const gpu of row.gpus()) gpu.message();
  expect(rows.map((row) => row.message().firingAlerts)).toEqual([1]);
  expect(counting).toHaveBeenCalledTimes(1);
});

test('series that kept the names of dcgm-exporter are found by their GPU too', () => {
  const { view, latest, source } = viewOf();
  const kept = dictionaryOf([
    series('DCGM_FI_DEV_GPU_TEMP', [
      ['UUID', 'GPU-5'],
      ['gpu', '5'],
    ]),
  ]);
  latest.apply(blockOf(kept, START_MS, [50], { source }));
  expect([...view.node('a')!.samples()].map(({ uuid }) => uuid)).toEqual(['GPU-5']);
});

// What the API says of the ledger must be what the ledger holds: an adapter that swaps two fields lies quietly.
test('losses and dead letters come as they are kept, newest first, and a node says how far behind it is', async () => {
  const { latest, alerts, health, clock } = viewOf();
  const registry = createRegistry();
  const shelf = new FakeShelf();
  const ledger = await Ledger.open({ shelf, clock, registry });
  const letters = await DeadLetters.open({ shelf, ledger, clock, registry, offer: async () => 'accepted' });
  const orders: object[] = [];
  const lists: FleetLists = {
    ledger,
    letters,
    replay: async (order) => {
      orders.push(order);
      return { id: 'r', agents: 3 };
    },
    statusOf: (cluster, node) =>
      cluster === 'east' && node === 'a' ? { oldestUndurableMs: 5_000, pendingSamples: 1.6 } : undefined,
  };
  const view = createFleetView(latest, accessOf(alerts, clock), health, lists, new FakeHealth());
  const loss = {
    fromMs: 1,
    toMs: 2,
    samples: 7,
    reason: 'trimmed',
    estimated: true,
    detail: 'aged',
  } as const;
  await ledger.record({ cluster: 'east', node: 'a' }, 'r/1', loss);
  await letters.add({
    ...{ cluster: 'east', node: 'b', series: 's', samples: 4, fromMs: 3, toMs: 4, status: 400 },
    ...{ answer: 'bad', body: new Uint8Array(1) },
  });
  const all = { node: '', reason: '', fromMs: undefined, toMs: undefined };
  const { rows, samples } = view.losses(all);
  expect(samples).toBe(11);
  expect(rows.map((row) => row.message().reason)).toEqual(['refused', 'trimmed']);
  expect(rows[0]!.key < rows[1]!.key, 'the order of pages').toBe(true);
  expect(rows[1]!.message()).toMatchObject({
    ...{ cluster: 'east', node: 'a', samples: 7n, reason: 'trimmed', estimated: true, detail: 'aged' },
    ...{ from: timestampFromMs(1), to: timestampFromMs(2), recordedAt: timestampFromMs(START_MS) },
  });
  expect(view.losses({ ...all, node: 'a', fromMs: 2, toMs: 9 }).samples).toBe(7);
  expect(view.losses({ ...all, reason: 'corrupt' }).rows).toEqual([]);
  expect(view.deadLetters('a')).toEqual([]);
  const [letter] = view.deadLetters('').map((row) => row.message());
  expect(letter).toMatchObject({
    ...{ cluster: 'east', node: 'b', series: 's', samples: 4n, status: 400, answer: 'bad' },
    ...{ from: timestampFromMs(3), to: timestampFromMs(4), recordedAt: timestampFromMs(START_MS) },
  });
  expect(await view.replayDeadLetters([letter!.id])).toEqual({ accepted: 1, refused: 0 });
  expect(view.losses(all).samples).toBe(7);
  expect(await view.replay({ fromMs: 1, toMs: 0, node: '', comment: 'c' })).toEqual({ id: 'r', agents: 3 });
  expect(orders).toEqual([{ fromMs: 1, toMs: 0, node: '', comment: 'c' }]);
  expect(view.node('a')!.message()).toMatchObject({
    ...{ pendingSamples: 2n, oldestUndurableAt: timestampFromMs(5_000) },
  });
});
