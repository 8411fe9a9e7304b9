import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findServer, VICTORIA_METRICS, VMAGENT } from '../../deploy/local/servers.ts';
import { freePort } from '../../test/support/ports.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { loadTrace } from '../trace.ts';
import type { LiveFramesOptions, LiveFramesRequest, LiveFramesResult } from './live-frames.ts';
import { type PrebuiltRequest, prebuildRequests, sendRequests } from './prebuilt-requests.ts';
import { Program } from './program.ts';
import { watchRows } from './row-rate.ts';
import { binaryOr, startAggregator, startVmagent } from './servers.ts';
import { Store } from './store.ts';

/** What a run measures, and how long. */
interface Size {
  readonly nodes: number;
  /** Prebuilt ticks: they bound how long the ceiling and vmagent can be measured. */
  readonly ticks: number;
  /**
   * Before the clock starts: the store indexes 22,000 to 55,000 new series a second and fills its caches, V8 compiles.
   * Four seconds gave both half of what they take later.
   */
  readonly warmUpMs: number;
  readonly measureMs: number;
}

const FULL: Size = { nodes: 50, ticks: 1_800, warmUpMs: 12_000, measureMs: 8_000 };
const TINY: Size = { nodes: 2, ticks: 20, warmUpMs: 0, measureMs: 2_500 };

/** Of live samples: less than the aggregator holds for the store (64 MiB of 9 to 55 bytes). */
const WINDOW_SAMPLES = 600_000;
/** What vmagent may be ahead of the store: it takes more than it can send, and queues. */
const VMAGENT_AHEAD_SAMPLES = 500_000;
/** Scores and the aggregator's other own series are rows too, and no samples of the load. */
const OWN_ROWS = 20_000;
const DRAIN_MS = 10_000;
const HOUR_MS = 3_600_000;

/** Live ticks through aggregator and store on one machine, beside the store alone and beside vmagent. */
export const e2e: BenchCase = {
  name: 'e2e',
  description:
    'live one-tick frames through aggregator and VictoriaMetrics, beside prebuilt requests sent to it directly and by vmagent (its /api/v1/write)',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const found = await findServer(VICTORIA_METRICS, options);
    if (binaryOr(found, 'VictoriaMetrics', 'e2e', options.log) === undefined) return {};
    const size = options.tiny ? TINY : FULL;
    const directory = await mkdtemp(join(tmpdir(), 'gpufleet-bench-e2e-'));
    try {
      const nodes = Array.from({ length: size.nodes }, (_, i) => `node-${i}`);
      const { dictionary, rows } = loadTrace('1s', options);
      // The past hour: nothing is in the future when the load runs faster than time.
      const startMs = Math.floor((Date.now() - HOUR_MS) / 1000) * 1000;
      const requests = await prebuildRequests({
        nodes,
        dictionary,
        rows,
        startMs,
        intervalMs: dictionary.intervalMs,
        ticks: size.ticks,
        samplesPerSeries: 1,
      });
      const ceiling = await ceilingRate(join(directory, 'ceiling'), requests, size, options);
      const bench = { seed: options.seed, tiny: options.tiny, dataDir: options.dataDir };
      const ours = await liveRate(join(directory, 'ours'), size, options, {
        nodes,
        startMs,
        windowSamples: WINDOW_SAMPLES,
        bench,
      });
      const vmagent = await vmagentRate(join(directory, 'vmagent'), requests, size, options);
      return {
        samples_per_second: ours,
        store_ceiling_samples_per_second: ceiling,
        ratio_to_store_ceiling: ours / ceiling,
        ...(vmagent !== undefined && {
          vmagent_samples_per_second: vmagent,
          ratio_to_vmagent: ours / vmagent,
        }),
      };
    } finally {
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    }
  },
};

async function ceilingRate(
  directory: string,
  requests: readonly PrebuiltRequest[],
  size: Size,
  { log }: BenchOptions,
): Promise<number> {
  await using store = await Store.start({ directory, port: await freePort(), log });
  const { sent, rate } = await measured(store, size, requests, store.url);
  const rows = await store.settledRows();
  if (rows !== sent) throw new Error(`the store has ${rows} rows of ${sent} samples that it accepted`);
  return rate;
}

async function liveRate(
  directory: string,
  { warmUpMs, measureMs }: Size,
  { log }: BenchOptions,
  load: Omit<LiveFramesOptions, 'port'>,
): Promise<number> {
  await using store = await Store.start({ directory, port: await freePort(), log });
  const ports = { ingest: await freePort(), api: await freePort() };
  await using _aggregator = await startAggregator({ directory, storeUrl: store.url, ports });
  await using program = new Program(new URL('./live-frames.ts', import.meta.url));
  const options = { ...load, port: ports.ingest };
  await program.ask({ kind: 'start', options } satisfies LiveFramesRequest);
  const rate = await watchRows(store, { warmUpMs, measureMs });
  const result = await program.ask<LiveFramesResult>({ kind: 'stop' } satisfies LiveFramesRequest);
  const rows = await store.settledRows();
  if (result.deferred + result.refused > 0)
    log(`e2e: ${result.deferred} samples deferred and ${result.refused} refused by the aggregator`);
  if (rows < result.accepted || rows > result.accepted * 1.02 + result.deferred + OWN_ROWS)
    throw new Error(`the store has ${rows} rows of ${result.accepted} samples that were accepted`);
  return rate;
}

async function vmagentRate(
  directory: string,
  requests: readonly PrebuiltRequest[],
  size: Size,
  { log }: BenchOptions,
): Promise<number | undefined> {
  const binary = binaryOr(await findServer(VMAGENT, { log }), 'vmagent', 'e2e.ratio_to_vmagent', log);
  if (binary === undefined) return undefined;
  await using store = await Store.start({ directory, port: await freePort(), log });
  const port = await freePort();
  await using _vmagent = await startVmagent(binary, { directory, storeUrl: store.url, port });
  const { sent, rate } = await measured(store, size, requests, `http://127.0.0.1:${port}`, {
    mostAhead: VMAGENT_AHEAD_SAMPLES,
  });
  const deadline = performance.now() + DRAIN_MS;
  while ((await store.rows()) < sent) {
    if (performance.now() > deadline)
      throw new Error(`the store has ${await store.rows()} rows of ${sent} samples that vmagent accepted`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return rate;
}

/** Sends until the time is over, and says at what rate rows came to the store meanwhile. */
async function measured(
  store: Store,
  { warmUpMs, measureMs }: Size,
  requests: readonly PrebuiltRequest[],
  url: string,
  { mostAhead = Number.POSITIVE_INFINITY } = {},
): Promise<{ sent: number; rate: number }> {
  let over = false;
  let arrived = 0;
  const rate = watchRows(store, {
    warmUpMs,
    measureMs,
    isOver: () => over,
    onRows: (rows) => {
      arrived = rows;
    },
  });
  const ended = rate.finally(() => {
    over = true;
  });
  const sending = sendRequests({
    url,
    requests,
    goOn: async (sent) => {
      while (!over && sent - arrived > mostAhead) await new Promise((resolve) => setTimeout(resolve, 10));
      return !over;
    },
  }).finally(() => {
    over = true;
  });
  const [{ samples }, samplesPerSecond] = await Promise.all([sending, ended]);
  return { sent: samples, rate: samplesPerSecond };
}
