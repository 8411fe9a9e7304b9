import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block } from '#shared/model/block.ts';
import { createSimulatedCollector } from '../../agent/collect/simulated/collector.ts';
import { Aggregator } from '../../aggregator/aggregator.ts';
import { Assessment } from '../../aggregator/assessment.ts';
import { loadAggregatorConfig } from '../../aggregator/config.ts';
import { AssetBook } from '../../aggregator/enrich/asset-book.ts';
import { defaultDetectionSettings } from '../../aggregator/health/detect/detection-settings.ts';
import { builtInProfiles } from '../../aggregator/health/profiles/load-profiles.ts';
import { DerivedSeries, type GpuFigures } from '../../aggregator/store/derived-series.ts';
import { readStoredHealth, type WarmStartOptions, withStoredHealth } from '../../aggregator/warm-start.ts';
import { freePort } from '../support/ports.ts';
import { tempDir } from '../support/temp.ts';
import { startTextServer } from '../support/text-server.ts';
import { startVictoriaMetrics, type VictoriaMetricsServer } from '../support/victoria-metrics.ts';
import { ManualClock, SOURCE } from './alerts/block-of.ts';
import { FakeShelf } from './ledger/open-shelf.ts';

const { HEALTHY, DEGRADED, CRITICAL } = HealthState;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** As the aggregator itself writes them. */
async function writeDerived(
  store: VictoriaMetricsServer,
  atMs: number,
  gpus: readonly Pick<GpuFigures, 'gpu' | 'uuid' | 'score' | 'state'>[],
): Promise<void> {
  const lines: string[] = [];
  const offer = async ({ source, dictionary, values, timestampMs }: Block) => {
    for (const [slot, { name, labels }] of dictionary.series.entries()) {
      const all = [['cluster', source.cluster], ['node', source.node], ...labels];
      const text = all.map(([label, value]) => `${label}="${value}"`).join(',');
      lines.push(`${name}{${text}} ${values[slot]} ${timestampMs}`);
    }
    return { state: 'accepted' as const };
  };
  const figures = gpus.map((gpu) => ({
    ...{ model: 'H100', dimensions: [100, 100, 100, 100, 100], confidence: 1, anomaly: 0 },
    ...gpu,
  }));
  const derived = new DerivedSeries(offer, silentLogger, createRegistry());
  const node = { source: SOURCE, up: true, score: 50, gpus: figures };
  await derived.write(atMs, [node], { cluster: 'east', scopes: [] });
  await store.importText(lines.join('\n'));
  await store.flush();
}

function options(url: string | undefined, more: Partial<WarmStartOptions> = {}) {
  const clock = new ManualClock();
  clock.ms = Date.now();
  const registry = createRegistry();
  const result = async (name: string): Promise<number> => {
    const found = await registry.getSingleMetric('gpufleet_health_warm_start_total')?.get();
    return found?.values.find(({ labels }) => labels.result === name)?.value ?? 0;
  };
  const store = url === undefined ? undefined : { url };
  return { options: { store, clock, logger: silentLogger, registry, ...more }, clock, result };
}

/** A node of which every GPU is well. */
function wellNode(clock: ManualClock) {
  return createSimulatedCollector({
    node: SOURCE.node,
    gpus: 3,
    seed: 3,
    intervalMs: 1000,
    load: 'steady',
    clock,
  });
}

/** An aggregator's assessment on an empty disk, after one tick of a node. */
async function startEmpty(
  options: WarmStartOptions,
  clock: ManualClock,
  node: ReturnType<typeof wellNode>,
): Promise<Assessment> {
  const assessment = await Assessment.open({
    ...{ clock, random: () => 0.5, logger: silentLogger, registry: options.registry, shelf: new FakeShelf() },
    assets: await AssetBook.open(undefined),
    profiles: builtInProfiles(),
    detection: defaultDetectionSettings(),
    stored: (thorough) => readStoredHealth(options, thorough),
    onEvent: () => {},
  });
  clock.ms += 1000;
  const reading = await node.collect(AbortSignal.abort());
  assessment.evaluate({ source: SOURCE, live: true, ...reading });
  return assessment;
}

describe('a start on an empty disk', () => {
  // Lost without it: a GPU with an Xid 79 gets work again because its aggregator was moved to another machine.
  it('has the critical GPU critical, still owing its check, and the degraded one degraded', async () => {
    await using store = await startVictoriaMetrics();
    const { options: warm, clock, result } = options(store.url);
    await using node = wellNode(clock);
    const uuid = (gpu: number): string => node.machine.boards[gpu]!.uuid;
    await writeDerived(store, clock.ms - 30_000, [
      { gpu: '0', uuid: uuid(0), score: 8, state: CRITICAL },
      { gpu: '1', uuid: uuid(1), score: 70, state: DEGRADED },
    ]);
    const { health } = await startEmpty(warm, clock, node);
    expect(health.detailOf(uuid(0))).toMatchObject({ state: CRITICAL, owesClearing: true });
    expect(health.detailOf(uuid(1))).toMatchObject({ state: DEGRADED });
    expect(health.detailOf(uuid(2))!.state).not.toBe(CRITICAL);
    // The last quarter of an hour, and the day.
    expect(await result('answered')).toBe(2);
  });

  it('asks the store that its configuration names', async () => {
    await using store = await startVictoriaMetrics();
    await using dir = tempDir('warm-start');
    const clock = new ManualClock();
    clock.ms = Date.now();
    await using node = wellNode(clock);
    const { uuid } = node.machine.boards[0]!;
    await writeDerived(store, clock.ms - 30_000, [{ gpu: '0', uuid, score: 8, state: CRITICAL }]);
    const file = join(dir.path, 'aggregator.yaml');
    writeFileSync(
      file,
      `data_dir: ${dir.path}/data\ningest: { listen: '127.0.0.1:0' }\nstore: { url: '${store.url}' }\n`,
    );
    await using aggregator = await Aggregator.open({
      config: await loadAggregatorConfig(file, {}),
      ...{ clock, random: () => 0.5, logger: silentLogger, registry: createRegistry() },
      ingest: { credentials: ServerCredentials.createInsecure(), authenticate: () => ({ node: undefined }) },
    });
    clock.ms += 1000;
    const reading = await node.collect(AbortSignal.abort());
    aggregator.assessment.evaluate({ source: SOURCE, live: true, ...reading });
    expect(aggregator.assessment.health.detailOf(uuid)).toMatchObject({ state: CRITICAL });
  });

  it('also after hours in which no aggregator ran', async () => {
    await using store = await startVictoriaMetrics();
    const { options: warm, clock } = options(store.url);
    await using node = wellNode(clock);
    const uuid = (gpu: number): string => node.machine.boards[gpu]!.uuid;
    await writeDerived(store, clock.ms - 5 * HOUR_MS, [
      { gpu: '0', uuid: uuid(0), score: 8, state: CRITICAL },
    ]);
    const { health } = await startEmpty(warm, clock, node);
    expect(health.detailOf(uuid(0))).toMatchObject({ state: CRITICAL, owesClearing: true });
  });

  it.each(['<html>sign in</html>', `"${'much '.repeat(400)}"`])(
    'is not held up by a store that answers %j',
    async (text) => {
      await using server = await startTextServer(text);
      const { options: warm, clock, result } = options(server.url, { maxBytes: 1000 });
      await using node = wellNode(clock);
      const uuid = (gpu: number): string => node.machine.boards[gpu]!.uuid;
      const { health } = await startEmpty(warm, clock, node);
      expect(health.detailOf(uuid(0))!.state).not.toBe(CRITICAL);
      expect(await result('failed')).toBe(1);
    },
  );

  it('is not held up by a store that is not there', async () => {
    const { options: warm, result } = options(`http://127.0.0.1:${await freePort()}`);
    expect(await readStoredHealth(warm, true)).toEqual([]);
    expect(await result('failed')).toBe(1);
  });

  it('is not held up by a store that hangs', async () => {
    await using store = await startVictoriaMetrics();
    store.pause();
    try {
      const { options: warm, result } = options(store.url, { timeoutMs: 300 });
      expect(await readStoredHealth(warm, true)).toEqual([]);
      expect(await result('failed')).toBe(1);
    } finally {
      store.resume();
    }
  });

  it('asks nobody without a store, nor a cluster that was not said where to be read', async () => {
    expect(await readStoredHealth(options(undefined).options, true)).toEqual([]);
    const cluster = options('http://127.0.0.1:1/insert/0/prometheus');
    expect(await readStoredHealth(cluster.options, true)).toEqual([]);
    expect(await cluster.result('unreadable')).toBe(1);
  });
});

describe('snapshot and store', () => {
  const saved = {
    uuid: 'GPU-0',
    machine: { state: HEALTHY },
    record: { mostLinksUp: 18 },
    savedMs: 10 * MINUTE_MS,
  };
  const stored = (state: HealthState, atMs: number, uuid = 'GPU-0') => ({
    ...{ uuid, cluster: 'east', node: 'n', gpu: '0', model: 'H100', score: 8, atMs },
    machine: { state },
  });

  it('the snapshot knows more and wins, but for GPUs that it does not have', () => {
    const all = withStoredHealth(
      [saved],
      [
        stored(CRITICAL, 9 * MINUTE_MS),
        stored(HEALTHY, 11 * MINUTE_MS),
        stored(DEGRADED, 20 * MINUTE_MS, 'GPU-1'),
      ],
      15 * MINUTE_MS,
    );
    expect(all).toEqual([
      saved,
      { uuid: 'GPU-1', machine: { state: DEGRADED }, record: {}, savedMs: 15 * MINUTE_MS },
    ]);
  });

  // Lost without it: a GPU that went to another aggregator, broke there and came back is healthy again.
  it('a newer state that is another one was written by who had the GPU meanwhile', () => {
    expect(withStoredHealth([saved], [stored(CRITICAL, 11 * MINUTE_MS)], 15 * MINUTE_MS)).toEqual([
      { ...saved, machine: { state: CRITICAL }, savedMs: 11 * MINUTE_MS },
    ]);
  });
});
