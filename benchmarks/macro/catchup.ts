import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findServer, VICTORIA_METRICS, VMAGENT } from '../../deploy/local/servers.ts';
import { freePort } from '../../test/support/ports.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { loadTrace, type Trace } from '../trace.ts';
import type { AgentsRequest } from './agents.ts';
import { layBacklog } from './backlog.ts';
import { watchLiveLag } from './live-lag.ts';
import { prebuildRequests, sendRequests } from './prebuilt-requests.ts';
import { Program } from './program.ts';
import { watchRows } from './row-rate.ts';
import { binaryOr, startAggregator, startVmagent } from './servers.ts';
import { Store } from './store.ts';

/** What a run measures, and how long. */
export interface CatchupSize {
  readonly agents: number;
  /** Of each agent. */
  readonly backlogTicks: number;
  /** A drain that takes longer is a failure. */
  readonly longestDrainMs: number;
  readonly ceilingTicks: number;
  /** Ticks of `agents` nodes that vmagent queues. */
  readonly vmagentTicks: number;
}

/**
 * 8 x 400 series x 12 hours at 1 s = 138 million samples: a minute at 2.3 million a second. The ceiling takes more than
 * half as many: what the store merges in the background comes later than the first seconds, and 19 million samples
 * went in at 3.9 million a second where 77 million did at 3.0. vmagent's queue is filled at half a million a second.
 */
const FULL: CatchupSize = {
  agents: 8,
  backlogTicks: 43_200,
  longestDrainMs: 420_000,
  ceilingTicks: 24_000,
  vmagentTicks: 10_000,
};
const TINY: CatchupSize = {
  agents: 2,
  backlogTicks: 60,
  longestDrainMs: 30_000,
  ceilingTicks: 60,
  vmagentTicks: 20,
};

const INTERVAL_MS = 1_000;
/** Of each series in one request of the ceiling: more gains the store next to nothing. */
const SAMPLES_PER_SERIES = 30;
const HOUR_MS = 3_600_000;
/** Looking costs the store and us a thirtieth of the machine at this pace: only the end is looked for so closely. */
const LOOK_EVERY_MS = 50;
const FAR_LOOK_EVERY_MS = 1_000;
/** Of the backlog: from here on the end is near. */
const NEAR_SHARE = 0.95;
/** vmagent waits up to a minute between its tries. */
const VMAGENT_FIRST_ROW_MS = 90_000;

/** A backlog on the agents' disks goes through the aggregator into the store while live ticks go on. */
export const catchup: BenchCase = {
  name: 'catchup',
  description:
    'agents drain half a day of buffer through the aggregator into VictoriaMetrics, live ticks going on; beside prebuilt requests of 30 samples a series, and the queue of vmagent',
  run: (options) => runCatchup(options, options.tiny ? TINY : FULL),
};

/** One run of the given size. */
export async function runCatchup(options: BenchOptions, size: CatchupSize): Promise<BenchMetrics> {
  const found = await findServer(VICTORIA_METRICS, options);
  if (binaryOr(found, 'VictoriaMetrics', 'catchup', options.log) === undefined) return {};
  const directory = await mkdtemp(join(tmpdir(), 'gpufleet-bench-catchup-'));
  try {
    const nodes = Array.from({ length: size.agents }, (_, i) => `node-${i}`);
    const trace = loadTrace('1s', options);
    const ceiling = await ceilingRate(join(directory, 'ceiling'), nodes, trace, size, options);
    const ours = await drainRate(join(directory, 'ours'), nodes, trace, size, options);
    const vmagent = await vmagentRate(join(directory, 'vmagent'), nodes, trace, size, options);
    return {
      samples_per_second: ours.rate,
      drain_seconds: ours.seconds,
      store_ceiling_samples_per_second: ceiling,
      ratio_to_store_ceiling: ours.rate / ceiling,
      live_lag_seconds_max: ours.lagSeconds,
      ...(vmagent !== undefined && {
        vmagent_samples_per_second: vmagent,
        ratio_to_vmagent: ours.rate / vmagent,
      }),
    };
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function ceilingRate(
  directory: string,
  nodes: readonly string[],
  { dictionary, rows }: Trace,
  { ceilingTicks }: CatchupSize,
  { log }: BenchOptions,
): Promise<number> {
  const requests = await prebuildRequests({
    nodes,
    dictionary,
    rows,
    startMs: Date.now() - ceilingTicks * INTERVAL_MS - HOUR_MS,
    intervalMs: INTERVAL_MS,
    ticks: ceilingTicks,
    samplesPerSeries: SAMPLES_PER_SERIES,
  });
  await using store = await Store.start({ directory, port: await freePort(), log });
  const { samples, seconds } = await sendRequests({ url: store.url, requests });
  const stored = await store.settledRows();
  if (stored !== samples)
    throw new Error(`the store has ${stored} rows of ${samples} samples that it accepted`);
  return samples / seconds;
}

/** The clock runs from the agents' start to the moment when no agent has a record left to send. */
async function drainRate(
  directory: string,
  nodes: readonly string[],
  trace: Trace,
  { backlogTicks, longestDrainMs }: CatchupSize,
  { log, ...bench }: BenchOptions,
): Promise<{ rate: number; seconds: number; lagSeconds: number }> {
  await layBacklog(directory, { nodes, trace, intervalMs: INTERVAL_MS, ticks: backlogTicks });
  await using store = await Store.start({ directory, port: await freePort(), log });
  const ports = { ingest: await freePort(), api: await freePort() };
  await using _aggregator = await startAggregator({ directory, storeUrl: store.url, ports });
  await using agents = new Program(new URL('./agents.ts', import.meta.url));
  const began = performance.now();
  const sinceMs = Date.now();
  await agents.ask({
    kind: 'start',
    options: {
      agents: nodes.map((node) => ({ node, directory: join(directory, node) })),
      aggregator: { host: '127.0.0.1', port: ports.ingest },
      intervalMs: INTERVAL_MS,
      bench,
    },
  } satisfies AgentsRequest);
  const lag = watchLiveLag(`http://127.0.0.1:${ports.api}`, {
    nodes: nodes.length,
    intervalMs: INTERVAL_MS,
    sinceMs,
  });
  const samples = backlogTicks * nodes.length * trace.dictionary.series.length;
  const isDrained = async (): Promise<boolean> =>
    (await agents.ask<number>({ kind: 'backlog' } satisfies AgentsRequest)) === 0;
  // The store's count says when to ask: until then the agents are left to their work.
  for (;;) {
    const rows = await store.rows();
    if (rows >= samples && (await isDrained())) break;
    if (performance.now() - began > longestDrainMs) {
      throw new Error(
        `the store has ${rows} rows of a backlog of ${samples} samples after ${longestDrainMs / 1000} s`,
      );
    }
    await sleep(rows < samples * NEAR_SHARE ? FAR_LOOK_EVERY_MS : LOOK_EVERY_MS);
  }
  const seconds = (performance.now() - began) / 1000;
  return { rate: samples / seconds, seconds, lagSeconds: await lag.stop() };
}

/** vmagent is fed while the store is away; the clock runs from the first row that comes to the store to the last. */
async function vmagentRate(
  directory: string,
  nodes: readonly string[],
  { dictionary, rows }: Trace,
  { vmagentTicks }: CatchupSize,
  { log }: BenchOptions,
): Promise<number | undefined> {
  const binary = binaryOr(await findServer(VMAGENT, { log }), 'vmagent', 'catchup.ratio_to_vmagent', log);
  if (binary === undefined) return undefined;
  const requests = await prebuildRequests({
    nodes,
    dictionary,
    rows,
    startMs: Date.now() - vmagentTicks * INTERVAL_MS - HOUR_MS,
    intervalMs: INTERVAL_MS,
    ticks: vmagentTicks,
    samplesPerSeries: 1,
  });
  await using store = await Store.create({ directory, port: await freePort(), log });
  const port = await freePort();
  await using _vmagent = await startVmagent(binary, { directory, storeUrl: store.url, port });
  const { samples } = await sendRequests({ url: `http://127.0.0.1:${port}`, requests });
  await store.start();
  let stored = 0;
  const rate = await watchRows(store, {
    // From its first row on: it waits between its tries.
    warmUpMs: 1,
    measureMs: VMAGENT_FIRST_ROW_MS,
    isOver: () => stored >= samples,
    onRows: (count) => {
      stored = count;
    },
  });
  if (stored !== samples) throw new Error(`the store has ${stored} rows of ${samples} that vmagent queued`);
  return rate;
}
