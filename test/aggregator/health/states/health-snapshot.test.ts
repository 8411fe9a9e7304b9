import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { HealthStateMachine } from '../../../../aggregator/health/state-machine.ts';
import type { HealthShelf } from '../../../../aggregator/health/states/health-shelf.ts';
import {
  HealthSnapshots,
  type HealthSnapshotsOptions,
  type RestoredGpu,
  type SavedGpu,
} from '../../../../aggregator/health/states/health-snapshot.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { ManualClock, START_MS } from '../../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';

const DAY_MS = 86_400_000;

/** A fleet whose records a test can change. */
function fleetOf(size: number): Map<string, SavedGpu> {
  const machine = { state: HealthState.HEALTHY };
  return new Map(
    Array.from({ length: size }, (_, i) => [
      `GPU-${i}`,
      { uuid: `GPU-${i}`, machine, record: { ecc: [0, 0] } },
    ]),
  );
}

function snapshotsOf(
  shelf: HealthShelf,
  gpus: Map<string, SavedGpu>,
  more: Partial<HealthSnapshotsOptions> = {},
) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const snapshots = new HealthSnapshots({
    ...{ shelf, clock, registry, logger: silentLogger, gpus: () => gpus.values() },
    ...more,
  });
  const skipped = async (reason: string): Promise<number> => {
    const { values } = await registry.getSingleMetric('gpufleet_health_snapshot_skipped_total')!.get();
    return values.find(({ labels }) => labels.reason === reason)?.value ?? 0;
  };
  return { snapshots, clock, skipped };
}

async function loaded(snapshots: HealthSnapshots): Promise<RestoredGpu[]> {
  const all: RestoredGpu[] = [];
  for await (const one of snapshots.load()) all.push(one);
  return all;
}

describe('snapshots of health', () => {
  it('survive a kill: a GPU that was critical by Xid 79 is critical after it, and owes its clearing', async () => {
    await using dir = tempDir('snapshot');
    await using first = await shelfIn(`${dir.path}/shelf`);
    const machine = new HealthStateMachine();
    machine.step({ score: 10, cap: 10, confidence: 1, fresh: true }, START_MS);
    const record = { xids: [[79, START_MS]], ecc: [0, 0, 1] };
    const gpus = new Map([['GPU-0', { uuid: 'GPU-0', machine: machine.snapshot(), record }]]);
    await snapshotsOf(first.shelf, gpus).snapshots.save();

    await using again = await shelfIn(crashCopy(dir, first.path));
    const [read] = await loaded(snapshotsOf(again.shelf, new Map()).snapshots);
    expect(read).toEqual({ uuid: 'GPU-0', machine: machine.snapshot(), record, savedMs: START_MS });
    const restored = new HealthStateMachine();
    restored.restore(read!.machine);
    restored.step({ score: 100, cap: undefined, confidence: 1, fresh: true }, START_MS + 3 * 3_600_000);
    expect(restored.state).toBe(HealthState.CRITICAL);
    expect(restored.owesClearing).toBe(true);
  });

  it('are written only where something changed, also after a restart', async () => {
    const shelf = new FakeShelf();
    const gpus = fleetOf(1200);
    const { snapshots } = snapshotsOf(shelf, gpus);
    expect(await snapshots.save()).toMatchObject({ written: 1200, partial: false });
    expect(await snapshots.save()).toMatchObject({ written: 0, bytes: 0 });
    gpus.set('GPU-7', { ...gpus.get('GPU-7')!, record: { ecc: [0, 1] } });
    expect(await snapshots.save()).toMatchObject({ written: 1 });

    const later = snapshotsOf(shelf, gpus).snapshots;
    expect(await loaded(later)).toHaveLength(1200);
    expect(await later.save()).toMatchObject({ written: 0 });
  });

  it('write no more than a round may, and come round to every GPU', async () => {
    const shelf = new FakeShelf();
    const gpus = fleetOf(1000);
    const { snapshots } = snapshotsOf(shelf, gpus, { maxRoundBytes: 4_000 });
    const seen = new Set<string>();
    let rounds = 0;
    for (; seen.size < 1000 && rounds < 40; rounds++) {
      const before = new Map(shelf.values);
      const { bytes, partial } = await snapshots.save();
      expect(partial).toBe(true);
      expect(bytes).toBeLessThan(4_100);
      for (const [key, value] of shelf.values) if (before.get(key) !== value) seen.add(key);
      // All change all the time: the first must not starve the last.
      for (const [uuid, gpu] of gpus) gpus.set(uuid, { ...gpu, record: { ecc: [rounds, rounds] } });
    }
    expect(seen.size).toBe(1000);
    expect(rounds).toBeGreaterThan(5);
  });

  it.each([
    ['newer', 'newer', { v: 2, savedMs: START_MS, machine: { state: 1 }, record: {} }],
    ['broken', 'no object', 'x'],
    ['broken', 'no version', { savedMs: START_MS, machine: { state: 1 }, record: {} }],
    ['broken', 'no state', { v: 1, savedMs: START_MS, machine: {}, record: {} }],
    ['broken', 'no time', { v: 1, machine: { state: 1 }, record: {} }],
    ['broken', 'no record', { v: 1, savedMs: START_MS, machine: { state: 1 } }],
  ])('leave out a %s entry (%s), counted, and read the rest', async (reason, _, value) => {
    const shelf = new FakeShelf();
    await snapshotsOf(shelf, fleetOf(2)).snapshots.save();
    shelf.values.set('health/GPU-0', value);
    const { snapshots, skipped } = snapshotsOf(shelf, fleetOf(2));
    expect((await loaded(snapshots)).map(({ uuid }) => uuid)).toEqual(['GPU-1']);
    expect(await skipped(reason)).toBe(1);
    // The GPU is there: its new entry takes the place of the old.
    expect(await snapshots.save()).toMatchObject({ written: 1 });
  });

  it('forget a GPU that was away for 30 days, and none that is there and never changes', async () => {
    const shelf = new FakeShelf();
    const gpus = fleetOf(3);
    const { snapshots, clock } = snapshotsOf(shelf, gpus);
    await snapshots.save();
    gpus.delete('GPU-2');
    for (let day = 0; day < 29; day++) {
      clock.ms += DAY_MS;
      await snapshots.save();
    }
    expect(shelf.values.size).toBe(3);
    clock.ms += 2 * DAY_MS;
    await snapshots.save();
    expect([...shelf.values.keys()]).toEqual(['health/GPU-0', 'health/GPU-1']);

    const late = new ManualClock();
    late.ms = clock.ms + 31 * DAY_MS;
    const { snapshots: reopened, skipped } = snapshotsOf(shelf, new Map(), { clock: late });
    expect(await loaded(reopened)).toEqual([]);
    expect(await skipped('old')).toBe(2);
    expect(shelf.values.size).toBe(0);
  });

  it('are bounded: by GPUs, and by the size of one', async () => {
    const shelf = new FakeShelf();
    const gpus = fleetOf(10);
    gpus.set('GPU-0', { ...gpus.get('GPU-0')!, record: 'x'.repeat(2000) });
    const { snapshots, skipped } = snapshotsOf(shelf, gpus, { maxGpus: 6, maxGpuBytes: 1000 });
    expect(await snapshots.save()).toMatchObject({ written: 6 });
    expect([await skipped('too_big'), await skipped('too_many')]).toEqual([1, 3]);
  });

  it('are written in the next round where the disk refused', async () => {
    const shelf = new FakeShelf();
    const { snapshots } = snapshotsOf(shelf, fleetOf(5));
    shelf.refuses = true;
    await expect(snapshots.save()).rejects.toThrow('disk full');
    shelf.refuses = false;
    expect(await snapshots.save()).toMatchObject({ written: 5 });
  });

  it('are written every so often, and once more at the end: an ordered stop loses nothing', async () => {
    const shelf = new FakeShelf();
    const gpus = fleetOf(1);
    const stop = new AbortController();
    const running = snapshotsOf(shelf, gpus, { intervalMs: 5 }).snapshots.run(stop.signal);
    await until(() => shelf.values.size === 1, { timeoutMs: 5_000, what: 'a first round' });
    gpus.set('GPU-9', { ...gpus.get('GPU-0')!, uuid: 'GPU-9' });
    stop.abort();
    await running;
    expect(shelf.values.size).toBe(2);
  });
});
