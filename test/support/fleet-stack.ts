import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { type NatsServer, startNats } from './nats-server.ts';
import { freePort } from './ports.ts';
import { type Child, startProgram } from './process.ts';
import { type TempDir, tempDir } from './temp.ts';
import { startVictoriaMetrics, type VictoriaMetricsServer } from './victoria-metrics.ts';
import { until } from './wait.ts';

export interface FleetOptions {
  /** The agent's settings beyond identity, ports and folders. */
  readonly agent: Record<string, unknown>;
  /** Settings of the aggregator beyond those; `alerts`, for example. */
  readonly aggregator?: Record<string, unknown>;
  /** Without VictoriaMetrics and NATS. */
  readonly embedded?: boolean;
}

const READY_MS = 30_000;

/** The real programs beside real servers, each restartable on its own ports and folders. */
export class FleetStack implements AsyncDisposable {
  readonly dir: TempDir;
  readonly ports: { readonly ingest: number; readonly api: number; readonly exporter: number };
  readonly #store: VictoriaMetricsServer | undefined;
  readonly #nats: NatsServer | undefined;
  readonly #options: FleetOptions;
  aggregator: Child | undefined;
  agent: Child | undefined;

  private constructor(
    dir: TempDir,
    ports: FleetStack['ports'],
    store: VictoriaMetricsServer | undefined,
    nats: NatsServer | undefined,
    options: FleetOptions,
  ) {
    this.dir = dir;
    this.ports = ports;
    this.#store = store;
    this.#nats = nats;
    this.#options = options;
  }

  /** Servers, aggregator and agent, all ready. */
  static async start(options: FleetOptions): Promise<FleetStack> {
    const dir = tempDir('fleet');
    const ports = { ingest: await freePort(), api: await freePort(), exporter: await freePort() };
    const store = options.embedded ? undefined : await startVictoriaMetrics();
    const nats = options.embedded ? undefined : await startNats();
    const stack = new FleetStack(dir, ports, store, nats, options);
    try {
      await stack.startAggregator();
      await stack.startAgent();
    } catch (error) {
      await stack[Symbol.asyncDispose]();
      throw error;
    }
    return stack;
  }

  get store(): VictoriaMetricsServer {
    return this.#store!;
  }

  get nats(): NatsServer {
    return this.#nats!;
  }

  get agentDir(): string {
    return join(this.dir.path, 'agent');
  }

  get api(): string {
    return `http://127.0.0.1:${this.ports.api}`;
  }

  async startAggregator(): Promise<void> {
    const config = {
      cluster: 'test',
      shard: 'shard-0',
      data_dir: join(this.dir.path, 'aggregator'),
      ...(this.#store && { store: { url: this.#store.url } }),
      ...(this.#nats && { nats: { servers: [this.#nats.url] } }),
      ...this.#options.aggregator,
      ingest: {
        ...(this.#options.aggregator?.ingest as object),
        listen: `127.0.0.1:${this.ports.ingest}`,
      },
      api: { ...(this.#options.aggregator?.api as object), listen: `127.0.0.1:${this.ports.api}` },
    };
    this.aggregator = await this.#start('aggregator', config, `${this.api}/readyz`);
  }

  async startAgent(): Promise<void> {
    const config = {
      cluster: 'test',
      node: 'node-1',
      machine_id: 'machine-1',
      data_dir: this.agentDir,
      aggregators: [`127.0.0.1:${this.ports.ingest}`],
      exporter: { listen: `127.0.0.1:${this.ports.exporter}` },
      ...this.#options.agent,
    };
    this.agent = await this.#start('agent', config, `http://127.0.0.1:${this.ports.exporter}/readyz`);
  }

  /** The value of one of the agent's own metrics without labels. */
  async agentMetric(name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.ports.exporter}/metrics`)).text();
    const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
    return value === undefined ? Number.NaN : Number(value);
  }

  /** The backlog is accepted: none pending, none in flight. Live ticks are answered by the agent's stop. */
  async drained(): Promise<void> {
    const idle = async (): Promise<boolean> => {
      const text = await (await fetch(`http://127.0.0.1:${this.ports.exporter}/metrics`)).text();
      const waiting =
        text.match(/^gpufleet_agent_(backlog_records|uplink_in_flight_bytes\{lane="backfill"\S*) \S+$/gm) ??
        [];
      return waiting.length === 2 && waiting.every((line) => line.endsWith(' 0'));
    };
    await until(idle, {
      timeoutMs: 60_000,
      what: 'the backlog is empty',
      detail: () => `${this.agent?.lastLines(5)}\n${this.aggregator?.lastLines(5)}`,
    });
  }

  async getJson<T>(path: string): Promise<T> {
    const response = await fetch(`${this.api}${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent?.stop(8_000);
    await this.aggregator?.stop(8_000);
    await this.#nats?.[Symbol.asyncDispose]();
    await this.#store?.[Symbol.asyncDispose]();
    await this.dir[Symbol.asyncDispose]();
  }

  async #start(program: 'agent' | 'aggregator', config: unknown, readyUrl: string): Promise<Child> {
    const file = join(this.dir.path, `${program}.yaml`);
    await writeFile(file, stringify(config));
    const child = await startProgram(`${program}/main.ts`, { args: ['--config', file] });
    await until(async () => (await fetch(readyUrl)).ok, {
      timeoutMs: READY_MS,
      what: `the ${program} is ready`,
      hopeless: () =>
        child.exit
          ? `it ended with ${child.exit.signal ?? child.exit.status}: ${child.lastLines(10)}`
          : undefined,
      detail: () => child.lastLines(10),
    });
    return child;
  }
}
