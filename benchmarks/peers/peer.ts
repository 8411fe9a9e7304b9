import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Child } from '../../deploy/local/child.ts';
import type { BenchOptions } from '../bench-case.ts';
import type { AgentsRequest } from '../macro/agents.ts';
import { Program } from '../macro/program.ts';
import { startAggregator, startPrometheusAgent, startVmagent } from '../macro/servers.ts';
import type { Network } from './network.ts';
import { cpuSeconds, diskBytes, residentBytes } from './process-usage.ts';

export type PeerName = 'gpufleet' | 'vmagent' | 'prometheus';

/** What every peer is given: the same targets, the same store, an empty folder. */
export interface PeerOptions {
  readonly network: Network;
  readonly directory: string;
  /** Of each node's exporter, as a path of one server. */
  readonly fleet: { readonly host: string; readonly port: number; readonly nodes: number };
  readonly storeUrl: string;
  readonly intervalMs: number;
  readonly bench: Omit<BenchOptions, 'log'>;
}

/** What a process has used. */
export interface Usage {
  /** Since its start. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

/** Carries samples from the fleet to the store. It can be killed and started again on the same folder. */
export interface Peer extends AsyncDisposable {
  readonly name: PeerName;
  start(): Promise<void>;
  /** kill -9 of every process of it. */
  kill9(): Promise<void>;
  /** Of all its processes, by name of the part; a peer that is one process has one. */
  usage(): Readonly<Record<string, Usage>>;
  /** Of what it keeps on disk for the store, bytes. */
  bufferBytes(): Promise<number>;
}

/** vmagent and Prometheus in agent mode: one process beside the store's place that scrapes all nodes. */
export class CentralScraper implements Peer {
  readonly name: 'vmagent' | 'prometheus';
  readonly #binary: string;
  readonly #options: PeerOptions;
  #child: Child | undefined;
  #port: number | undefined;

  constructor(name: 'vmagent' | 'prometheus', binary: string, options: PeerOptions) {
    this.name = name;
    this.#binary = binary;
    this.#options = options;
  }

  async start(): Promise<void> {
    const { network, directory, storeUrl } = this.#options;
    this.#port ??= await network.freePort('hub');
    const config = join(directory, 'scrape.yaml');
    const shared = {
      directory,
      port: this.#port,
      hosts: { listen: network.listenHost('hub'), control: network.controlHost('hub') },
      prefix: network.prefix('hub'),
    };
    const scrape = scrapeConfig(this.#options.fleet, this.#options.intervalMs);
    if (this.name === 'vmagent') {
      await writeFile(config, stringify(scrape));
      this.#child = await startVmagent(this.#binary, { ...shared, storeUrl, scrape: config });
    } else {
      await writeFile(config, stringify({ ...scrape, remote_write: [{ url: `${storeUrl}/api/v1/write` }] }));
      this.#child = await startPrometheusAgent(this.#binary, { ...shared, config });
    }
  }

  async kill9(): Promise<void> {
    await this.#child?.kill9();
  }

  usage(): Readonly<Record<string, Usage>> {
    return { [this.name]: usageOf(this.#child!.pid) };
  }

  bufferBytes(): Promise<number> {
    return diskBytes(join(this.#options.directory, 'queue'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child?.[Symbol.asyncDispose]();
  }
}

/** What makes vmagent or Prometheus read the pages of `fleet-server.ts`. */
export function scrapeConfig(fleet: PeerOptions['fleet'], intervalMs: number) {
  return {
    global: { scrape_interval: `${intervalMs}ms`, scrape_timeout: `${intervalMs}ms` },
    scrape_configs: [
      {
        job_name: 'dcgm',
        static_configs: Array.from({ length: fleet.nodes }, (_, target) => ({
          targets: [`${fleet.host}:${fleet.port}`],
          labels: { __metrics_path__: `/node/${target}/metrics`, instance: `node-${target}` },
        })),
      },
    ],
  };
}

/** An agent on each node, all of them in one process, and an aggregator. */
export class Gpufleet implements Peer {
  readonly name = 'gpufleet';
  readonly #options: PeerOptions;
  #ports: { readonly ingest: number; readonly api: number } | undefined;
  #aggregator: Child | undefined;
  #agents: Program | undefined;

  constructor(options: PeerOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { network, directory, fleet, intervalMs, bench, storeUrl } = this.#options;
    this.#ports ??= { ingest: await network.freePort('hub'), api: await network.freePort('hub') };
    this.#aggregator = await startAggregator({
      directory,
      storeUrl,
      ports: this.#ports,
      hosts: { listen: network.listenHost('hub'), control: network.controlHost('hub') },
      prefix: network.prefix('hub'),
    });
    this.#agents = new Program(new URL('../macro/agents.ts', import.meta.url), network.prefix('node'));
    await this.#agents.ask({
      kind: 'start',
      options: {
        agents: Array.from({ length: fleet.nodes }, (_, target) => ({
          node: `node-${target}`,
          directory: join(this.#queue, `node-${target}`),
          url: `http://127.0.0.1:${fleet.port}/node/${target}/metrics`,
        })),
        aggregator: { host: network.dataHost('hub'), port: this.#ports.ingest },
        intervalMs,
        bench,
      },
    } satisfies AgentsRequest);
  }

  async kill9(): Promise<void> {
    await Promise.all([this.#agents?.kill9(), this.#aggregator?.kill9()]);
  }

  usage(): Readonly<Record<string, Usage>> {
    return { agents: usageOf(this.#agents!.pid), aggregator: usageOf(this.#aggregator!.pid) };
  }

  bufferBytes(): Promise<number> {
    return diskBytes(this.#queue);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agents?.[Symbol.asyncDispose]();
    await this.#aggregator?.[Symbol.asyncDispose]();
  }

  get #queue(): string {
    return join(this.#options.directory, 'queue');
  }
}

function usageOf(pid: number): Usage {
  return { cpuSeconds: cpuSeconds(pid), rssBytes: residentBytes(pid) };
}
