import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { Child } from '../../deploy/local/child.ts';
import { findServer, VICTORIA_METRICS, VMAGENT } from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';
import { freePort } from '../../test/support/ports.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import type { FleetRequest } from '../peers/fleet-server.ts';
import { cpuSeconds, diskBytes, residentBytes } from '../peers/process-usage.ts';
import { Program } from './program.ts';
import { binaryOr, startAggregator, startVmagent } from './servers.ts';
import { Store } from './store.ts';

/** How long each part is watched, after it has warmed up. */
interface Size {
  readonly warmUpMs: number;
  readonly watchMs: number;
}

const FULL: Size = { warmUpMs: 30_000, watchMs: 60_000 };
const TINY: Size = { warmUpMs: 1_500, watchMs: 2_500 };
/** 50 fields of each: 400 series. */
const GPUS = 8;
/** As many series as 16 GPUs with 100 fields. */
const FAST_GPUS = 32;
const FAST_INTERVAL_MS = 100;
/** The fake library's table gives 38 series a GPU: as many GPUs as give about 400. */
const NVML_GPUS = 11;
const ROOT = resolve(import.meta.dirname, '..', '..');
const BUNDLE = join(ROOT, 'dist', 'agent', 'main.js');
const FAKE_NVML = join(ROOT, 'test', 'support', 'fake-nvml', 'fake-nvml.c');
/** As the systemd unit starts it. */
const NODE_FLAGS = ['--max-semi-space-size=1'];
const READY_TIMEOUT_MS = 60_000;

/**
 * The agent as it is deployed (the bundle), all in: reading, buffering with an fsync for each tick, streaming to an
 * aggregator, acknowledgements. Beside it vmagent with one target, which scrapes centrally and has no buffer until its
 * store is away.
 */
export const agent: BenchCase = {
  name: 'agent',
  description:
    'one agent as deployed, 400 series, buffer and stream included: CPU a tick, memory and disk; scraping, and over a fake NVML; vmagent with one such target beside it',
  async run(options) {
    const size = options.tiny ? TINY : FULL;
    const directory = await mkdtemp(join(tmpdir(), 'gpufleet-bench-agent-'));
    try {
      execFileSync(process.execPath, [join(ROOT, 'deploy/local/bundle.ts')], { stdio: 'ignore' });
      return { ...(await ours(directory, size, options)), ...(await vmagent(directory, size, options)) };
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};

async function ours(directory: string, size: Size, options: BenchOptions): Promise<BenchMetrics> {
  const ports = { ingest: await freePort(), api: await freePort() };
  await using _aggregator = await startAggregator({ directory: join(directory, 'aggregator'), ports });
  await using pages = await startPages(GPUS, options.seed);
  await using many = await startPages(FAST_GPUS, options.seed);
  const run = async (name: string, collectors: object, intervalMs: number): Promise<Usage> =>
    await watchAgent(join(directory, name), collectors, intervalMs, ports.ingest, size);
  const scrape = { dcgm_exporter: { url: pages.url } };
  const second = await run('second', scrape, 1_000);
  const tenth = options.tiny ? second : await run('ten-seconds', scrape, 10_000);
  const metrics: BenchMetrics = {
    cpu_ms_per_tick: second.cpuMsPerTick,
    cpu_ms_per_tick_at_10s: tenth.cpuMsPerTick,
    rss_mib: second.rssMib,
    anon_mib: second.anonMib,
    disk_bytes_per_sample: second.diskBytes / (second.ticks * GPUS * 50),
  };
  const fast = await run('fast', { dcgm_exporter: { url: many.url } }, FAST_INTERVAL_MS);
  metrics.missed_ticks_at_100_ms = fast.missedTicks;
  metrics.cpu_ms_per_tick_of_1600_series_at_100_ms = fast.cpuMsPerTick;
  const library = buildFakeNvml(directory, options);
  if (library === undefined) return metrics;
  await writeFile(join(directory, 'control'), `gpus=${NVML_GPUS}\n`);
  const nvml = await run('nvml', { nvml: { library, keep_open: true } }, 1_000);
  return {
    ...metrics,
    nvml_cpu_ms_per_tick: nvml.cpuMsPerTick,
    nvml_agent_rss_mib: nvml.rssMib,
    nvml_probe_rss_mib: nvml.childRssMib,
    nvml_probe_anon_mib: nvml.childAnonMib,
  };
}

interface Usage {
  readonly ticks: number;
  /** Of the agent and its children. */
  readonly cpuMsPerTick: number;
  readonly rssMib: number;
  readonly anonMib: number;
  readonly childRssMib: number;
  readonly childAnonMib: number;
  readonly diskBytes: number;
  /** Since it was warm. */
  readonly missedTicks: number;
}

async function watchAgent(
  directory: string,
  collectors: object,
  intervalMs: number,
  ingestPort: number,
  { warmUpMs, watchMs }: Size,
): Promise<Usage> {
  await mkdir(directory, { recursive: true });
  const config = join(directory, 'agent.yaml');
  const port = await freePort();
  await writeFile(
    config,
    stringify({
      cluster: 'bench',
      node: 'bench',
      machine_id: 'bench',
      data_dir: join(directory, 'data'),
      aggregators: [`127.0.0.1:${ingestPort}`],
      collection_interval: `${intervalMs}ms`,
      collectors,
      exporter: { listen: `127.0.0.1:${port}` },
    }),
  );
  await using child = await Child.start({
    name: 'agent',
    command: process.execPath,
    args: [...NODE_FLAGS, BUNDLE, '--config', config],
    env: { NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined, MALLOC_ARENA_MAX: '2' },
  });
  await until(async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok, {
    timeoutMs: READY_TIMEOUT_MS,
    what: 'the agent has read its source',
    detail: () => child.lastLines(10),
  });
  await sleep(Math.max(warmUpMs, 2 * intervalMs));
  const before = cpuOfAll(child.pid);
  const diskBefore = await diskBytes(join(directory, 'data'));
  const missedBefore = await missedTicks(port);
  // Long enough for many ticks at any interval.
  const watched = Math.max(watchMs, Math.min(6 * intervalMs, watchMs * 2));
  await sleep(watched);
  const ticks = watched / intervalMs;
  const [probe] = childrenOf(child.pid);
  return {
    ticks,
    cpuMsPerTick: ((cpuOfAll(child.pid) - before) * 1000) / ticks,
    rssMib: residentBytes(child.pid) / 2 ** 20,
    anonMib: anonymousMib(child.pid),
    childRssMib: probe === undefined ? 0 : residentBytes(probe) / 2 ** 20,
    childAnonMib: probe === undefined ? 0 : anonymousMib(probe),
    missedTicks: (await missedTicks(port)) - missedBefore,
    diskBytes: (await diskBytes(join(directory, 'data'))) - diskBefore,
  };
}

async function missedTicks(port: number): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const lines = [...page.matchAll(/^gpufleet_agent_missed_ticks_total\{[^}]*\} (\d+)$/gm)];
  return lines.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** The same pages, scraped by vmagent into VictoriaMetrics. */
async function vmagent(directory: string, size: Size, options: BenchOptions): Promise<BenchMetrics> {
  const binary = binaryOr(await findServer(VMAGENT, options), 'vmagent', 'its part of agent', options.log);
  const found = await findServer(VICTORIA_METRICS, options);
  if (binary === undefined || binaryOr(found, 'VictoriaMetrics', 'vmagent', options.log) === undefined)
    return {};
  await using store = await Store.start({
    directory: join(directory, 'store'),
    port: await freePort(),
    log: options.log,
  });
  await using pages = await startPages(GPUS, options.seed);
  const folder = join(directory, 'vmagent');
  await mkdir(folder, { recursive: true });
  const scrape = join(folder, 'scrape.yaml');
  const { host, pathname } = new URL(pages.url);
  await writeFile(
    scrape,
    stringify({
      global: { scrape_interval: '1s' },
      scrape_configs: [{ job_name: 'dcgm', metrics_path: pathname, static_configs: [{ targets: [host] }] }],
    }),
  );
  await using child = await startVmagent(binary, {
    directory: folder,
    storeUrl: store.url,
    port: await freePort(),
    scrape,
  });
  await sleep(size.warmUpMs);
  const before = cpuSeconds(child.pid);
  await sleep(size.watchMs);
  return {
    vmagent_cpu_ms_per_tick: ((cpuSeconds(child.pid) - before) * 1000) / (size.watchMs / 1000),
    vmagent_rss_mib: residentBytes(child.pid) / 2 ** 20,
    vmagent_anon_mib: anonymousMib(child.pid),
  };
}

async function startPages(gpus: number, seed: number): Promise<AsyncDisposable & { readonly url: string }> {
  const program = new Program(new URL('../peers/fleet-server.ts', import.meta.url));
  const fleet = { host: '127.0.0.1', nodes: 1, gpus, seed };
  const port = await program.ask<number>({ kind: 'listen', fleet } satisfies FleetRequest);
  return {
    url: `http://127.0.0.1:${port}/node/0/metrics`,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

/** The tests' libnvidia-ml.so.1, which answers at once: what is measured is the way through it. */
function buildFakeNvml(directory: string, { log }: BenchOptions): string | undefined {
  const library = join(directory, 'libnvidia-ml.so.1');
  try {
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', library, FAKE_NVML, '-ldl'], { stdio: 'ignore' });
    return library;
  } catch {
    log('SKIPPED the NVML part of agent: no C compiler (cc)');
    return undefined;
  }
}

function cpuOfAll(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, one) => sum + cpuSeconds(one), 0);
}

function childrenOf(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').trim().split(' ').filter(Boolean).map(Number);
}

/** RssAnon of /proc/<pid>/status. */
function anonymousMib(pid: number): number {
  const kib = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}
