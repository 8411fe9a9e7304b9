import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';
import { stringify } from 'yaml';
import {
  ALERTMANAGER,
  findServer,
  NATS_SERVER,
  VICTORIA_METRICS,
  VMAGENT,
  VMALERT,
} from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';
import { freePort } from '../../test/support/ports.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import type { Breaches, FleetRequest } from '../peers/fleet-server.ts';
import { scrapeConfig } from '../peers/peer.ts';
import type { AgentsRequest } from './agents.ts';
import type { PacedStreamsOptions } from './paced-streams.ts';
import { Program } from './program.ts';
import {
  binaryOr,
  startAggregator,
  startAlertmanager,
  startNats,
  startVmagent,
  startVmalert,
} from './servers.ts';
import { Store } from './store.ts';

interface Size {
  /** With an agent that scrapes, and breaches. */
  readonly nodes: number;
  /** Beside them, played: real agents for all would be two cores' work, and their queue what is measured. */
  readonly played?: number;
  readonly intervalMs: number;
  /** Not measured: connections are made, series are indexed, code is compiled. */
  readonly warmUpMs: number;
  readonly breaches: number;
}

const GPUS = 8;
/** A GPU is hot again after so many scrapes: see fleet-server.ts. */
const ROUND_SCRAPES = 4 * GPUS;
/** 12.5 breaches a second. */
const GATE: Size = { nodes: 50, intervalMs: 1_000, warmUpMs: 15_000, breaches: 1_000 };
/** 5 breaches a second; the hub has 1,000 nodes x 8 GPUs. */
const LARGE: Size = { nodes: 200, played: 800, intervalMs: 10_000, warmUpMs: 60_000, breaches: 500 };
const TINY: Size = { nodes: 4, intervalMs: 1_000, warmUpMs: 2_500, breaches: 6 };

const PLAYED = new URL('./paced-streams.ts', import.meta.url);
const PLAYED_SERIES = 400;
/** A breach without an alert after so long was missed. */
const PATIENCE_MS = 15_000;
const MEASURE_TIMEOUT_MS = 180_000;

/**
 * From the moment at which the exporter gave out a page with a breach, its reading and the way through agent and
 * aggregator included, to the moment at which a subscriber has the alert. The same page for the peers.
 */
export const alert: BenchCase = {
  name: 'alert',
  description:
    'breach served to the scraper until a NATS subscriber has the alert: 50 nodes at 1 s, with and without the store, 1,000 nodes at 10 s; beside vmagent + VictoriaMetrics + vmalert + Alertmanager',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const { tiny, log } = options;
    const store = await findServer(VICTORIA_METRICS, { log });
    const nats = binaryOr(await findServer(NATS_SERVER, { log }), 'nats-server', 'alert', log);
    if (nats === undefined || binaryOr(store, 'VictoriaMetrics', 'alert', log) === undefined) return {};
    const ours = await measureOurs(nats, tiny ? TINY : GATE, options, true);
    const large = tiny ? {} : prefixed('large_', await measureOurs(nats, LARGE, options, false));
    return { ...ours, ...large, ...(await measurePeer(tiny ? TINY : GATE, options)) };
  },
};

async function measureOurs(
  nats: string,
  size: Size,
  { log, ...bench }: BenchOptions,
  withoutStore: boolean,
): Promise<BenchMetrics> {
  await using dir = tempDir('bench-alert');
  await using fleet = await startFleet(size, bench.seed);
  await using store = await Store.start({ directory: dir.path, port: await freePort(), log });
  const natsPort = await freePort();
  await using _nats = await startNats(nats, { directory: dir.path, port: natsPort });
  const ports = { ingest: await freePort(), api: await freePort() };
  const directory = join(dir.path, 'aggregator');
  await using _aggregator = await startAggregator({
    ...{ directory, storeUrl: store.url, ports },
    nats: `127.0.0.1:${natsPort}`,
  });
  const connection = await connect({ servers: `127.0.0.1:${natsPort}` });
  try {
    const arrivals = new Arrivals();
    connection.subscribe('gpufleet.alerts.*.*.*.gpu-temperature.>', {
      callback: (_, message) => {
        const now = Date.now();
        const said = message.json<{ node: string; gpu: string; state: string }>();
        if (said.state === 'ALERT_STATE_FIRING') arrivals.note(`${said.node}/${said.gpu}`, now);
      },
    });
    await connection.flush();
    await using agents = new Program(new URL('./agents.ts', import.meta.url));
    const request: AgentsRequest = {
      kind: 'start',
      options: {
        agents: Array.from({ length: size.nodes }, (_, target) => ({
          node: `node-${target}`,
          directory: join(dir.path, 'agents', `node-${target}`),
          url: `http://127.0.0.1:${fleet.port}/node/${target}/metrics`,
        })),
        aggregator: { host: '127.0.0.1', port: ports.ingest },
        intervalMs: size.intervalMs,
        bench,
      },
    };
    await agents.ask(request);
    await using others = size.played === undefined ? undefined : new Program(PLAYED);
    await others?.ask({
      kind: 'start',
      options: {
        ...{ port: ports.ingest, streams: size.played!, names: 'played-', series: PLAYED_SERIES },
        ...{ intervalMs: size.intervalMs, ticks: 120, bench },
      } satisfies PacedStreamsOptions,
    });
    await sleep(size.warmUpMs);
    const measured = await measure(fleet, arrivals, size);
    if (!withoutStore) return measured;
    await store.stop();
    await sleep(bench.tiny ? 500 : 5_000);
    return { ...measured, ...prefixed('store_stopped_', await measure(fleet, arrivals, size)) };
  } finally {
    await connection.close();
  }
}

async function measurePeer(size: Size, { seed, tiny, log }: BenchOptions): Promise<BenchMetrics> {
  const skipped = 'alert.peer_*';
  const vmagent = binaryOr(await findServer(VMAGENT, { log }), 'vmagent', skipped, log);
  const vmalert = binaryOr(await findServer(VMALERT, { log }), 'vmalert', skipped, log);
  const manager = binaryOr(await findServer(ALERTMANAGER, { log }), 'Alertmanager', skipped, log);
  if (vmagent === undefined || vmalert === undefined || manager === undefined) return {};
  await using dir = tempDir('bench-alert');
  await using fleet = await startFleet(size, seed);
  await using store = await Store.start({ directory: dir.path, port: await freePort(), log });
  const arrivals = new Arrivals();
  await using webhook = await listenForAlertmanager(arrivals);
  const config = join(dir.path, 'alertmanager.yaml');
  await writeFile(config, stringify(managerConfig(webhook.url)));
  const managerPort = await freePort();
  await using _manager = await startAlertmanager(manager, { directory: dir.path, port: managerPort, config });
  const rules = join(dir.path, 'rules.yaml');
  await writeFile(rules, stringify(PEER_RULES));
  await using _vmalert = await startVmalert(vmalert, {
    ...{ storeUrl: store.url, port: await freePort(), rules },
    notifier: `http://127.0.0.1:${managerPort}`,
  });
  const directory = join(dir.path, 'vmagent');
  await mkdir(directory);
  const scrape = join(directory, 'scrape.yaml');
  const target = { host: '127.0.0.1', port: fleet.port, nodes: size.nodes };
  await writeFile(scrape, stringify(scrapeConfig(target, size.intervalMs)));
  await using _vmagent = await startVmagent(vmagent, {
    ...{ directory, storeUrl: store.url, port: await freePort(), scrape },
  });
  await sleep(tiny ? 3_000 : size.warmUpMs);
  return prefixed('peer_', await measure(fleet, arrivals, size));
}

/** vmagent's own scrape interval is kept by the rule: above for one evaluation fires. */
const PEER_RULES = {
  groups: [
    {
      name: 'gpu',
      interval: '1s',
      rules: [{ alert: 'gpu-temperature', expr: 'DCGM_FI_DEV_GPU_TEMP > 90' }],
    },
  ],
};

/** As fast as Alertmanager can be told to be, each alert a group of its own. */
function managerConfig(url: string) {
  return {
    route: {
      receiver: 'bench',
      group_by: ['...'],
      group_wait: '0s',
      group_interval: '1s',
      repeat_interval: '1h',
    },
    receivers: [{ name: 'bench', webhook_configs: [{ url, send_resolved: true }] }],
  };
}

interface Fleet extends AsyncDisposable {
  readonly port: number;
  breaches(): Promise<Breaches>;
}

async function startFleet({ nodes }: Size, seed: number): Promise<Fleet> {
  const program = new Program(new URL('../peers/fleet-server.ts', import.meta.url));
  const fleet = { host: '127.0.0.1', nodes, gpus: GPUS, seed, breaches: true };
  const port = await program.ask<number>({ kind: 'listen', fleet } satisfies FleetRequest);
  return {
    port,
    breaches: () => program.ask<Breaches>({ kind: 'breaches' } satisfies FleetRequest),
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

/** When alerts came, by GPU. */
class Arrivals {
  readonly #times = new Map<string, number[]>();

  note(gpu: string, nowMs: number): void {
    const times = this.#times.get(gpu);
    if (times) times.push(nowMs);
    else this.#times.set(gpu, [nowMs]);
  }

  /** The first after a moment and before another; undefined where there is none. */
  between(gpu: string, fromMs: number, toMs: number): number | undefined {
    return this.#times.get(gpu)?.find((time) => time >= fromMs && time < toMs);
  }
}

/** Waits for so many breaches from now on, and for their alerts. */
async function measure(fleet: Fleet, arrivals: Arrivals, size: Size): Promise<BenchMetrics> {
  await fleet.breaches();
  const seen: [gpu: string, servedMs: number][] = [];
  const collect = async (): Promise<boolean> => {
    for (const [target, gpu, servedMs] of await fleet.breaches())
      seen.push([`node-${target}/${gpu}`, servedMs]);
    return seen.length >= size.breaches;
  };
  await until(collect, { timeoutMs: MEASURE_TIMEOUT_MS, everyMs: 100, what: `${size.breaches} breaches` });
  const counted = seen.slice(0, size.breaches);
  // A GPU is hot again after all the others were: a later alert belongs to the next spell.
  const roundMs = ROUND_SCRAPES * size.intervalMs;
  const latencyOf = ([gpu, servedMs]: [string, number]): number | undefined => {
    const came = arrivals.between(gpu, servedMs, servedMs + Math.min(roundMs, PATIENCE_MS));
    return came === undefined ? undefined : came - servedMs;
  };
  await until(async () => counted.every((one) => latencyOf(one) !== undefined), {
    timeoutMs: Math.min(roundMs, PATIENCE_MS),
    everyMs: 50,
    what: 'an alert for each',
  }).catch(() => {});
  const latencies = counted
    .map(latencyOf)
    .filter((one) => one !== undefined)
    .sort((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor(share * (latencies.length - 1))]!;
  const counts = { breaches: counted.length, missed_breaches: counted.length - latencies.length };
  return latencies.length === 0 ? counts : { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1), ...counts };
}

async function listenForAlertmanager(
  arrivals: Arrivals,
): Promise<AsyncDisposable & { readonly url: string }> {
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const now = Date.now();
    const { alerts } = JSON.parse(Buffer.concat(parts).toString()) as {
      alerts: { status: string; labels: { instance: string; gpu: string } }[];
    };
    for (const { status, labels } of alerts)
      if (status === 'firing') arrivals.note(`${labels.instance}/${labels.gpu}`, now);
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function prefixed(prefix: string, metrics: BenchMetrics): BenchMetrics {
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`${prefix}${name}`, value]));
}
