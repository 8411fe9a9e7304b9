import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { alertmanagerCommand } from '../../deploy/local/alertmanager.ts';
import { Child } from '../../deploy/local/child.ts';
import type { FoundServer } from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';
import { BENCH_CLUSTER } from './bench-nodes.ts';

/** What each of the programs here is told. */
export interface ServerOptions {
  /** Its data; kept over restarts. */
  readonly directory: string;
  readonly storeUrl: string;
  /** Where it listens, and where we reach it. */
  readonly hosts?: { readonly listen: string; readonly control: string };
  /** A command that enters the place where it runs. */
  readonly prefix?: readonly string[];
}

const LOOPBACK = { listen: '127.0.0.1', control: '127.0.0.1' };
const READY_TIMEOUT_MS = 30_000;
const ROOT = resolve(import.meta.dirname, '..', '..');

/** Our aggregator with everything as it ships; without a URL it has no store, and without another no NATS. */
export async function startAggregator(
  options: Omit<ServerOptions, 'storeUrl'> & {
    readonly storeUrl?: string;
    /** host:port */
    readonly nats?: string;
    readonly ports: { readonly ingest: number; readonly api: number };
  },
): Promise<Child> {
  const { directory, storeUrl, nats, ports, hosts = LOOPBACK } = options;
  await mkdir(directory, { recursive: true });
  const file = join(directory, 'aggregator.yaml');
  await writeFile(
    file,
    stringify({
      cluster: BENCH_CLUSTER,
      shard: 'bench',
      data_dir: join(directory, 'aggregator'),
      ...(storeUrl !== undefined && { store: { url: storeUrl } }),
      ...(nats !== undefined && { nats: { servers: [nats] } }),
      // In a namespace of its own, where nobody but the benchmark is.
      ingest: { listen: `${hosts.listen}:${ports.ingest}`, allow_unauthenticated: true },
      api: {
        listen: `${hosts.listen}:${ports.api}`,
        allow_unauthenticated: true,
        allowed_hosts: [hosts.control],
      },
    }),
  );
  const args = [join(ROOT, 'aggregator/main.ts'), '--config', file];
  return started('aggregator', options, process.execPath, args, `${hosts.control}:${ports.api}/readyz`);
}

/** A command line of vmagent, with its queue below `directory`; `scrape` is a file in Prometheus' format. */
export function startVmagent(
  binary: string,
  options: ServerOptions & { readonly port: number; readonly scrape?: string },
): Promise<Child> {
  const { directory, storeUrl, port, scrape, hosts = LOOPBACK } = options;
  const args = [
    `-httpListenAddr=${hosts.listen}:${port}`,
    `-remoteWrite.url=${storeUrl}/api/v1/write`,
    `-remoteWrite.tmpDataPath=${join(directory, 'queue')}`,
    ...(scrape === undefined ? [] : [`-promscrape.config=${scrape}`]),
  ];
  return started('vmagent', options, binary, args, `${hosts.control}:${port}/health`);
}

/** Prometheus in agent mode, its write-ahead log below `directory`. */
export function startPrometheusAgent(
  binary: string,
  options: Omit<ServerOptions, 'storeUrl'> & { readonly port: number; readonly config: string },
): Promise<Child> {
  const { directory, port, config, hosts = LOOPBACK } = options;
  const args = [
    '--enable-feature=agent',
    `--config.file=${config}`,
    `--storage.agent.path=${join(directory, 'queue')}`,
    `--web.listen-address=${hosts.listen}:${port}`,
  ];
  return started('prometheus', options, binary, args, `${hosts.control}:${port}/-/ready`);
}

/** nats-server with JetStream, its data below `directory`. */
export function startNats(
  binary: string,
  { directory, port }: { readonly directory: string; readonly port: number },
): Promise<Child> {
  const monitor = ['-m', String(port + 1)];
  const args = ['-js', '-a', LOOPBACK.listen, '-p', String(port), ...monitor, '-sd', join(directory, 'nats')];
  return started('nats-server', {}, binary, args, `${LOOPBACK.control}:${port + 1}/healthz`);
}

/** Rules each second over the store, to an Alertmanager. */
export function startVmalert(
  binary: string,
  options: Pick<ServerOptions, 'storeUrl'> & {
    readonly port: number;
    readonly rules: string;
    readonly notifier: string;
  },
): Promise<Child> {
  const { storeUrl, port, rules, notifier } = options;
  const args = [
    `-httpListenAddr=${LOOPBACK.listen}:${port}`,
    `-datasource.url=${storeUrl}`,
    `-notifier.url=${notifier}`,
    `-rule=${rules}`,
    '-evaluationInterval=1s',
  ];
  return started('vmalert', {}, binary, args, `${LOOPBACK.control}:${port}/health`);
}

export function startAlertmanager(
  binary: string,
  options: { readonly directory: string; readonly port: number; readonly config: string },
): Promise<Child> {
  const { directory, port, config } = options;
  const args = [
    `--config.file=${config}`,
    `--storage.path=${join(directory, 'alertmanager')}`,
    `--web.listen-address=${LOOPBACK.listen}:${port}`,
    '--cluster.listen-address=',
  ];
  const [command, ...before] = alertmanagerCommand(binary);
  return started('alertmanager', {}, command!, [...before, ...args], `${LOOPBACK.control}:${port}/-/ready`);
}

/** The binary, or undefined, said loudly: a peer that is missing leaves a hole in the comparison. */
export function binaryOr(
  found: FoundServer,
  name: string,
  without: string,
  log: (line: string) => void,
): string | undefined {
  if (found.binary === undefined) log(`SKIPPED ${without}: no ${name} (${found.reason})`);
  return found.binary;
}

async function started(
  name: string,
  { prefix = [] }: Pick<ServerOptions, 'prefix'>,
  binary: string,
  args: readonly string[],
  readyAt: string,
): Promise<Child> {
  const [command, ...before] = [...prefix, binary];
  const child = await Child.start({
    name,
    command: command!,
    args: [...before, ...args],
    env: { NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined },
  });
  await until(async () => (await fetch(`http://${readyAt}`)).ok, {
    timeoutMs: READY_TIMEOUT_MS,
    what: `${name} is ready`,
    hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
    detail: () => child.lastLines(10),
  });
  return child;
}
