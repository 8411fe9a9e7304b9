import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findServer, PROMETHEUS, VICTORIA_METRICS, VMAGENT } from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { Program } from '../macro/program.ts';
import { binaryOr } from '../macro/servers.ts';
import { Store } from '../macro/store.ts';
import { samplesPerPage } from './dcgm-page.ts';
import type { FleetRequest, Served } from './fleet-server.ts';
import { measureFreshness } from './freshness.ts';
import { type Network, openNetwork } from './network.ts';
import { watchRecovery } from './outage.ts';
import { CentralScraper, Gpufleet, type Peer, type PeerName, type PeerOptions, type Usage } from './peer.ts';

/** What a run measures, and how long. */
interface Size {
  readonly nodes: number;
  readonly gpus: number;
  readonly intervalMs: number;
  /** Not measured: the store indexes new series, connections are made. */
  readonly warmUpMs: number;
  readonly steadyMs: number;
  readonly outageMs: number;
  /** The outage at whose end the peer is killed. */
  readonly secondOutageMs: number;
  /** Without progress for so long, what is missing is lost: longer than the longest pause between two tries. */
  readonly patienceMs: number;
}

/** 50 nodes x 8 GPUs x 50 fields at 1 s: 20,000 samples a second. */
const FULL: Size = {
  nodes: 50,
  gpus: 8,
  intervalMs: 1_000,
  warmUpMs: 10_000,
  steadyMs: 25_000,
  outageMs: 60_000,
  secondOutageMs: 15_000,
  patienceMs: 20_000,
};
const TINY: Size = {
  nodes: 2,
  gpus: 1,
  intervalMs: 200,
  warmUpMs: 3_000,
  steadyMs: 2_500,
  outageMs: 600,
  secondOutageMs: 400,
  patienceMs: 4_000,
};

const FIRST_SAMPLES_MS = 60_000;
/** A scrape that was served this shortly before a kill -9 was still being read. */
const BEING_READ_MS = 100;

/** The same fleet, the same store, one shipper after the other. */
export const peers: BenchCase = {
  name: 'peers',
  description:
    'gpufleet, vmagent and Prometheus (agent mode), one after the other, on the same simulated fleet and a fresh VictoriaMetrics each: cost, bytes, freshness, an outage of the store, a kill -9',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const size = options.tiny ? TINY : FULL;
    const { log } = options;
    const store = await findServer(VICTORIA_METRICS, { log });
    if (binaryOr(store, 'VictoriaMetrics', 'peers', log) === undefined) return {};
    const found = {
      vmagent: await findServer(VMAGENT, { log }),
      prometheus: await findServer(PROMETHEUS, { log }),
    };
    log(
      'peers: the agents of all nodes run in one process; gpufleet_cpu and _rss are theirs and the aggregator’s',
    );
    const runs: (() => Promise<BenchMetrics>)[] = [
      () => measurePeer('gpufleet', (peer) => new Gpufleet(peer), size, options),
    ];
    for (const name of ['vmagent', 'prometheus'] as const) {
      const binary = binaryOr(found[name], name, `peers.${name}_*`, log);
      if (binary !== undefined)
        runs.push(() => measurePeer(name, (peer) => new CentralScraper(name, binary, peer), size, options));
    }
    // One after the other, so that none takes CPU from another; where nothing is measured, all at once.
    if (options.tiny) return Object.assign({}, ...(await Promise.all(runs.map((run) => run()))));
    const metrics: BenchMetrics = {};
    for (const run of runs) Object.assign(metrics, await run());
    return metrics;
  },
};

async function measurePeer(
  name: PeerName,
  make: (options: PeerOptions) => Peer,
  size: Size,
  { log, ...bench }: BenchOptions,
): Promise<BenchMetrics> {
  const directory = await mkdtemp(join(tmpdir(), `gpufleet-bench-${name}-`));
  try {
    using network = openNetwork(log);
    await using fleet = new Program(new URL('./fleet-server.ts', import.meta.url), network.prefix('node'));
    const { nodes, gpus, intervalMs } = size;
    const port = await fleet.ask<number>({
      kind: 'listen',
      fleet: { host: network.listenHost('node'), nodes, gpus, seed: bench.seed },
    } satisfies FleetRequest);
    await using store = await Store.start({
      directory: join(directory, 'store'),
      port: await network.freePort('store'),
      hosts: {
        listen: network.listenHost('store'),
        data: network.dataHost('store'),
        control: network.controlHost('store'),
      },
      prefix: network.prefix('store'),
      log,
    });
    const own = join(directory, name);
    await mkdir(own, { recursive: true });
    await using peer = make({
      network,
      directory: own,
      fleet: { host: network.dataHost('node'), port, nodes },
      storeUrl: store.url,
      intervalMs,
      bench,
    });
    const served = (): Promise<Served> => fleet.ask<Served>({ kind: 'served' } satisfies FleetRequest);
    const run: PeerRun = { peer, store, network, served, size };
    await peer.start();
    // By count: a query before a series is there would be answered from a cache for ten seconds.
    await until(async () => (await store.rows()) >= nodes * samplesPerPage(gpus), {
      timeoutMs: FIRST_SAMPLES_MS,
      what: `a page of every node comes through ${name}`,
    });
    await sleep(size.warmUpMs);
    const steady = await measureSteady(run);
    const outage = await measureOutage(run);
    const lost = await measureKill(run);
    const metrics = { ...steady, ...outage, lost_samples_after_kill: lost };
    return Object.fromEntries(Object.entries(metrics).map(([metric, value]) => [`${name}_${metric}`, value]));
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface PeerRun {
  readonly peer: Peer;
  readonly store: Store;
  readonly network: Network;
  readonly served: () => Promise<Served>;
  readonly size: Size;
}

/** What it costs while all is well. Samples are those that the fleet served, the same measure for everyone. */
async function measureSteady({ peer, store, network, served, size }: PeerRun): Promise<BenchMetrics> {
  const samples = async (): Promise<number> => countScrapes(await served()) * samplesPerPage(size.gpus);
  const before = { usage: peer.usage(), bytes: network.wireBytes(), samples: await samples() };
  const freshness = await measureFreshness(store, size.nodes, size.steadyMs);
  const after = { usage: peer.usage(), bytes: network.wireBytes(), samples: await samples() };
  const count = after.samples - before.samples;
  const metrics: BenchMetrics = { samples_per_second: count / (size.steadyMs / 1000) };
  Object.assign(metrics, costs('', count, sum(before.usage), sum(after.usage)));
  const parts = Object.keys(after.usage);
  if (parts.length > 1) {
    for (const part of parts)
      Object.assign(metrics, costs(`${part}_`, count, before.usage[part]!, after.usage[part]!));
  }
  if (before.bytes && after.bytes) {
    const nodeToHub = (after.bytes.nodeToHub - before.bytes.nodeToHub) / count;
    const hubToStore = (after.bytes.hubToStore - before.bytes.hubToStore) / count;
    // What crosses the network from the nodes: our frames, or what a shipper on the node would send to the store.
    Object.assign(
      metrics,
      peer.name === 'gpufleet'
        ? { wire_bytes_per_sample: nodeToHub, store_wire_bytes_per_sample: hubToStore }
        : { wire_bytes_per_sample: hubToStore, scrape_wire_bytes_per_sample: nodeToHub },
    );
  }
  return { ...metrics, freshness_p50_seconds: freshness.p50, freshness_p99_seconds: freshness.p99 };
}

/** The store is away for a while: what that costs on disk, and how fast it is made good. */
async function measureOutage({ peer, store, served, size }: PeerRun): Promise<BenchMetrics> {
  const fromMs = Date.now();
  const before = await peer.bufferBytes();
  await store.stop();
  const scrapesBefore = countScrapes(await served());
  await sleep(size.outageMs);
  const scrapes = countScrapes(await served()) - scrapesBefore;
  const after = await peer.bufferBytes();
  await store.start();
  const { peakRowsPerSecond, missingScrapes } = await watchRecovery(store, {
    served,
    fromMs,
    patienceMs: size.patienceMs,
    excused: [],
  });
  return {
    buffer_disk_bytes_per_sample: (after - before) / (scrapes * samplesPerPage(size.gpus)),
    catchup_samples_per_second: peakRowsPerSecond,
    lost_samples_after_outage: missingScrapes * samplesPerPage(size.gpus),
  };
}

/** The store is away, and at the end the peer dies. What was served to it and never comes is lost. */
async function measureKill({ peer, store, served, size }: PeerRun): Promise<number> {
  const fromMs = Date.now();
  await store.stop();
  await sleep(size.secondOutageMs);
  const killedMs = Date.now();
  await peer.kill9();
  await store.start();
  await peer.start();
  const { missingScrapes } = await watchRecovery(store, {
    served,
    fromMs,
    patienceMs: size.patienceMs,
    excused: [{ fromMs: killedMs - BEING_READ_MS, toMs: killedMs + BEING_READ_MS }],
  });
  return missingScrapes * samplesPerPage(size.gpus);
}

function costs(prefix: string, samples: number, before: Usage, after: Usage): BenchMetrics {
  const cpu = after.cpuSeconds - before.cpuSeconds;
  return {
    [`${prefix}cpu_seconds_per_million_samples`]: (cpu * 1e6) / samples,
    [`${prefix}rss_bytes`]: after.rssBytes,
  };
}

function sum(parts: Readonly<Record<string, Usage>>): Usage {
  let cpuSeconds = 0;
  let rssBytes = 0;
  for (const part of Object.values(parts)) {
    cpuSeconds += part.cpuSeconds;
    rssBytes += part.rssBytes;
  }
  return { cpuSeconds, rssBytes };
}

function countScrapes(served: Served): number {
  return served.reduce((count, times) => count + times.length, 0);
}
