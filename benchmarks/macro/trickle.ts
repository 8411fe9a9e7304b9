import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { findServer, VICTORIA_METRICS, VMAGENT } from '../../deploy/local/servers.ts';
import { freePort } from '../../test/support/ports.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { samplesPerPage } from '../peers/dcgm-page.ts';
import type { FleetRequest } from '../peers/fleet-server.ts';
import { scrapeConfig } from '../peers/peer.ts';
import { cpuSeconds, residentBytes } from '../peers/process-usage.ts';
import type { GrpcEchoRequest } from './grpc-echo.ts';
import type { PacedStreamsOptions } from './paced-streams.ts';
import { Program } from './program.ts';
import { binaryOr, startAggregator, startVmagent } from './servers.ts';
import { Store } from './store.ts';
import { watchLoad } from './watch-load.ts';

const NODES = 100;
const SERIES = 400;
/** The store has indexed the new series, and what runs a hundred times a second is compiled. */
const WARM_UP_MS = 20_000;
const MEASURE_MS = 20_000;

/** Of one node, which gives vmagent's pages one series more: their marker. */
const GPUS = 8;

/** The whole aggregator at an easy pace, with a real store behind it: what one sample costs. */
export const trickle: BenchCase = {
  name: 'trickle',
  description: `${NODES} nodes x ${SERIES} series at 1 s through the aggregator into VictoriaMetrics, then as many scraped by vmagent: CPU for a million samples`,
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const found = await findServer(VICTORIA_METRICS, options);
    if (binaryOr(found, 'VictoriaMetrics', 'trickle', options.log) === undefined) return {};
    const ours = { ...(await measureAggregator(options)), ...(await measureTransport(options)) };
    const vmagent = await measureVmagent(options);
    if (vmagent === undefined) return ours;
    const ratio = ours.aggregator_cpu_seconds_per_million! / vmagent.vmagent_cpu_seconds_per_million!;
    return { ...ours, ...vmagent, ratio_to_vmagent: ratio };
  },
};

async function measureAggregator(options: BenchOptions): Promise<BenchMetrics> {
  const { tiny, log } = options;
  await using dir = tempDir('bench-trickle');
  await using store = await Store.start({ directory: dir.path, port: await freePort(), log });
  const ports = { ingest: await freePort(), api: await freePort() };
  const directory = join(dir.path, 'aggregator');
  await using aggregator = await startAggregator({ directory, storeUrl: store.url, ports });
  await using load = await startLoad(ports.ingest, options);
  await sleep(tiny ? 100 : WARM_UP_MS);
  const pids = [aggregator.pid, store.pid];
  const { seconds, cpu, ticks } = await watchLoad(load, pids, tiny ? 1_000 : MEASURE_MS, log);
  const millions = (ticks * SERIES) / 1e6;
  return {
    aggregator_cpu_seconds_per_million: cpu[0]! / millions,
    store_cpu_seconds_per_million: cpu[1]! / millions,
    aggregator_rss_bytes: residentBytes(aggregator.pid),
    samples_per_second: (ticks * SERIES) / seconds,
  };
}

/** The part of it that no aggregator on grpc-js can save: the same streams, taken and acknowledged, and nothing else. */
async function measureTransport(options: BenchOptions): Promise<BenchMetrics> {
  const { tiny, log } = options;
  const port = await freePort();
  await using echo = new Program(new URL('./grpc-echo.ts', import.meta.url));
  await echo.ask({ port } satisfies GrpcEchoRequest);
  await using load = await startLoad(port, options);
  await sleep(tiny ? 100 : WARM_UP_MS);
  const { cpu, ticks } = await watchLoad(load, [echo.pid], tiny ? 1_000 : MEASURE_MS, log);
  return { grpc_alone_cpu_seconds_per_million: cpu[0]! / ((ticks * SERIES) / 1e6) };
}

async function startLoad(port: number, { seed, tiny, dataDir }: BenchOptions): Promise<Program> {
  const load = new Program(new URL('./paced-streams.ts', import.meta.url));
  const options: PacedStreamsOptions = {
    port,
    streams: tiny ? 5 : NODES,
    series: SERIES,
    intervalMs: tiny ? 100 : 1_000,
    ticks: 120,
    bench: { seed, tiny, dataDir },
  };
  try {
    await load.ask({ kind: 'start', options });
    return load;
  } catch (error) {
    await load[Symbol.asyncDispose]();
    throw error;
  }
}

/** Scraping is part of what vmagent does, as decoding frames is of what the aggregator does. */
async function measureVmagent({ seed, tiny, log }: BenchOptions): Promise<BenchMetrics | undefined> {
  const binary = binaryOr(await findServer(VMAGENT, { log }), 'vmagent', 'trickle.vmagent_*', log);
  if (binary === undefined) return undefined;
  await using dir = tempDir('bench-trickle');
  await using store = await Store.start({ directory: dir.path, port: await freePort(), log });
  await using fleet = new Program(new URL('../peers/fleet-server.ts', import.meta.url));
  const host = '127.0.0.1';
  const nodes = tiny ? 5 : NODES;
  const port = await fleet.ask<number>({
    kind: 'listen',
    fleet: { host, nodes, gpus: GPUS, seed },
  } satisfies FleetRequest);
  const directory = join(dir.path, 'vmagent');
  await mkdir(directory);
  const scrape = join(directory, 'scrape.yaml');
  await writeFile(scrape, stringify(scrapeConfig({ host, port, nodes }, 1_000)));
  await using vmagent = await startVmagent(binary, {
    directory,
    storeUrl: store.url,
    port: await freePort(),
    scrape,
  });
  await sleep(tiny ? 2_000 : WARM_UP_MS);
  const before = cpuSeconds(vmagent.pid);
  const began = performance.now();
  await sleep(tiny ? 2_000 : MEASURE_MS);
  const cpu = cpuSeconds(vmagent.pid) - before;
  const millions = (((performance.now() - began) / 1_000) * nodes * samplesPerPage(GPUS)) / 1e6;
  return {
    vmagent_cpu_seconds_per_million: cpu / millions,
    vmagent_rss_bytes: residentBytes(vmagent.pid),
  };
}
