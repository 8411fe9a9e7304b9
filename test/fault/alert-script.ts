import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { stringify } from 'yaml';
import { type NatsServer, startNats } from '../support/nats-server.ts';
import { freePort } from '../support/ports.ts';
import { type Child, startProgram } from '../support/process.ts';
import { seededRandom } from '../support/random.ts';
import { type TempDir, tempDir } from '../support/temp.ts';
import { startTextServer, type TextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

/** How many transitions, of how many alerts, and with which dice. */
export interface AlertScriptOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly gpus: number;
  /** Of each GPU: hot, cool, hot ... and cool in the end. Each has one critical Xid beside. */
  readonly spells: number;
}

export interface AlertScriptResult {
  /** By alert, `node/gpu rule`: what the script did. */
  readonly expected: Readonly<Record<string, readonly string[]>>;
  /** What the durable subscriber has, in its order. */
  readonly recorded: Readonly<Record<string, readonly string[]>>;
  readonly kills: Readonly<Record<'nats' | 'aggregator' | 'agent', number>>;
  /** From a kill until everything goes on, ms. */
  readonly longestOutageMs: number;
  readonly transitions: number;
}

const INTERVAL_MS = 200;
/** A condition lasts at least this, and three times the longest outage seen so far. */
const LEAST_HOLD_MS = 3_000;
const READY_MS = 30_000;
/** Between two kills, at most. */
const PEACE_MS = 3_000;
const AFTERMATH_MS = 3_000;
const RULES = {
  rules: [
    {
      name: 'hot',
      metric: 'gpu_temperature_celsius',
      labels: { sensor: 'core' },
      severities: [{ severity: 'critical', above: 90 }],
      clear: 2,
    },
    { name: 'xid', event: 'xid', codes: [79], key: 'code', severity: 'critical', expires: '1d' },
  ],
};

/**
 * A script of conditions on the pages of exporters, while NATS, the aggregator and agents are killed by dice (kill -9)
 * and started again. Programs and servers are the real ones.
 */
export async function runAlertScript(options: AlertScriptOptions): Promise<AlertScriptResult> {
  await using fleet = await AlertFleet.start(options);
  await using subscriber = await Subscriber.start(fleet.nats.url);
  const stop = new AbortController();
  const killing = fleet.killUntil(stop.signal);
  // Also where it fails while nobody waits for it yet.
  killing.catch(() => stop.abort());
  const expected: Record<string, string[]> = {};
  const random = seededRandom(options.seed);
  try {
    await Promise.all(
      fleet.pages.flatMap((page) =>
        page.gpus.map((_, gpu) => playGpu(fleet, page, gpu, options.spells, random, expected, stop.signal)),
      ),
    );
  } finally {
    stop.abort();
    await killing;
  }
  const transitions = Object.values(expected).reduce((sum, states) => sum + states.length, 0);
  await until(() => subscriber.count >= transitions, {
    timeoutMs: 60_000,
    what: `${transitions} transitions in the stream`,
    detail: () => `${subscriber.count} are there\n${fleet.aggregatorOutput}`,
  }).catch(() => {});
  // What came twice may come late.
  await sleep(AFTERMATH_MS);
  const { kills, longestOutageMs } = fleet;
  return { expected, recorded: subscriber.recorded(), kills, longestOutageMs, transitions };
}

async function playGpu(
  fleet: AlertFleet,
  page: NodePage,
  gpu: number,
  spells: number,
  random: () => number,
  expected: Record<string, string[]>,
  signal: AbortSignal,
): Promise<void> {
  const states: string[] = [];
  expected[`${page.node}/${gpu} hot`] = states;
  const xidAt = Math.floor(random() * spells);
  await fleet.hold(random() * LEAST_HOLD_MS, 0);
  for (let spell = 0; spell < spells && !signal.aborted; spell++) {
    page.set(gpu, { celsius: 97 });
    states.push('FIRING');
    if (spell === xidAt) {
      page.set(gpu, { xid: 79 });
      expected[`${page.node}/${gpu} xid`] = ['FIRING'];
    }
    await fleet.hold(LEAST_HOLD_MS * random(), LEAST_HOLD_MS);
    page.set(gpu, { celsius: 50 });
    states.push('RESOLVED');
    await fleet.hold(LEAST_HOLD_MS * random(), LEAST_HOLD_MS);
  }
}

/** What the exporter of one node says. */
class NodePage {
  readonly node: string;
  readonly server: TextServer;
  readonly gpus: { celsius: number; xid: number }[];

  constructor(node: string, server: TextServer, gpus: number) {
    this.node = node;
    this.server = server;
    this.gpus = Array.from({ length: gpus }, () => ({ celsius: 50, xid: 0 }));
    this.set(0, {});
  }

  set(gpu: number, change: { celsius?: number; xid?: number }): void {
    Object.assign(this.gpus[gpu]!, change);
    this.server.text = this.gpus
      .map(({ celsius, xid }, index) => {
        const labels = `gpu="${index}",UUID="GPU-${this.node}-${index}",modelName="NVIDIA H100"`;
        return `DCGM_FI_DEV_GPU_TEMP{${labels}} ${celsius}\nDCGM_FI_DEV_XID_ERRORS{${labels}} ${xid}\n`;
      })
      .join('');
  }
}

interface Ports {
  readonly ingest: number;
  readonly api: number;
}

class AlertFleet implements AsyncDisposable {
  readonly kills = { nats: 0, aggregator: 0, agent: 0 };
  readonly nats: NatsServer;
  readonly pages: readonly NodePage[];
  #longestMs = 0;
  /** Of the outage that goes on. */
  #beganMs: number | undefined;
  readonly #dir: TempDir;
  readonly #ports: Ports;
  readonly #random: () => number;
  readonly #agents: Child[] = [];
  readonly #agentPorts: number[] = [];
  #aggregator: Child | undefined;

  private constructor(
    dir: TempDir,
    nats: NatsServer,
    pages: readonly NodePage[],
    ports: Ports,
    seed: number,
  ) {
    this.#dir = dir;
    this.nats = nats;
    this.pages = pages;
    this.#ports = ports;
    this.#random = seededRandom(seed ^ 0x5eed);
  }

  static async start({ seed, nodes, gpus }: AlertScriptOptions): Promise<AlertFleet> {
    const dir = tempDir('alert-script');
    await writeFile(join(dir.path, 'rules.yaml'), stringify(RULES));
    const pages: NodePage[] = [];
    for (let n = 0; n < nodes; n++) pages.push(new NodePage(`node-${n}`, await startTextServer(''), gpus));
    const ports = { ingest: await freePort(), api: await freePort() };
    const fleet = new AlertFleet(dir, await startNats(), pages, ports, seed);
    try {
      await fleet.#startAggregator();
      for (let n = 0; n < nodes; n++) {
        fleet.#agentPorts.push(await freePort());
        await fleet.#startAgent(n);
      }
      await fleet.#goesOn();
      return fleet;
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The one that goes on counts as long as it is by now: a condition must outlast that too. */
  get longestOutageMs(): number {
    const now = this.#beganMs === undefined ? 0 : performance.now() - this.#beganMs;
    return Math.max(this.#longestMs, now);
  }

  get aggregatorOutput(): string {
    return this.#aggregator?.lastLines(20) ?? '';
  }

  /** Waits so long, and `least` more or three times the longest outage so far, also where that grows meanwhile. */
  async hold(extraMs: number, least: number): Promise<void> {
    await sleep(extraMs);
    const began = performance.now();
    while (performance.now() - began < Math.max(least, least === 0 ? 0 : 3 * this.longestOutageMs))
      await sleep(50);
  }

  /** Kills one part, waits until everything goes on, and again, until the signal aborts. */
  async killUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#random() * PEACE_MS);
      const victim = (['nats', 'aggregator', 'agent'] as const)[Math.floor(this.#random() * 3)]!;
      this.#beganMs = performance.now();
      await this.#kill(victim);
      await this.#goesOn();
      this.kills[victim]++;
      this.#longestMs = this.longestOutageMs;
      this.#beganMs = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.kill9()));
    await this.#aggregator?.stop(8_000);
    await this.nats[Symbol.asyncDispose]();
    for (const { server } of this.pages) await server[Symbol.asyncDispose]();
    await this.#dir[Symbol.asyncDispose]();
  }

  async #kill(victim: 'nats' | 'aggregator' | 'agent'): Promise<void> {
    const away = this.#random() * 500;
    if (victim === 'nats') {
      await this.nats.kill9();
      await sleep(away);
      await this.nats.restart();
    } else if (victim === 'aggregator') {
      await this.#aggregator!.kill9();
      await sleep(away);
      await this.#startAggregator();
    } else {
      const n = Math.floor(this.#random() * this.#agents.length);
      await this.#agents[n]!.kill9();
      await sleep(away);
      await this.#startAgent(n);
    }
  }

  /** Every node is up, and the aggregator has NATS. */
  async #goesOn(): Promise<void> {
    const api = `http://127.0.0.1:${this.#ports.api}`;
    await until(
      async () => {
        if (!(await (await fetch(`${api}/readyz`)).text()).startsWith('ready')) return false;
        const { nodes } = (await (await fetch(`${api}/api/v1/nodes`)).json()) as {
          nodes: { state: string }[];
        };
        return nodes.filter(({ state }) => state === 'NODE_STATE_UP').length === this.pages.length;
      },
      { timeoutMs: READY_MS, what: 'everything goes on', detail: () => this.aggregatorOutput },
    );
  }

  async #startAggregator(): Promise<void> {
    const { ingest, api } = this.#ports;
    this.#aggregator = await this.#run('aggregator', 'aggregator', {
      ...{ cluster: 'test', shard: 'shard-0', data_dir: join(this.#dir.path, 'aggregator') },
      nats: { servers: [this.nats.url] },
      alerts: { rules: join(this.#dir.path, 'rules.yaml') },
      ingest: { listen: `127.0.0.1:${ingest}` },
      api: { listen: `127.0.0.1:${api}` },
    });
  }

  async #startAgent(n: number): Promise<void> {
    this.#agents[n] = await this.#run('agent', `agent-${n}`, {
      ...{ cluster: 'test', node: `node-${n}`, machine_id: `machine-${n}` },
      data_dir: join(this.#dir.path, `agent-${n}`),
      aggregators: [`127.0.0.1:${this.#ports.ingest}`],
      exporter: { listen: `127.0.0.1:${this.#agentPorts[n]}` },
      collection_interval: `${INTERVAL_MS}ms`,
      collectors: { dcgm_exporter: { url: this.pages[n]!.server.url } },
    });
  }

  async #run(program: 'agent' | 'aggregator', name: string, config: unknown): Promise<Child> {
    const file = join(this.#dir.path, `${name}.yaml`);
    await writeFile(file, stringify(config));
    return startProgram(`${program}/main.ts`, { args: ['--config', file] });
  }
}

const CONSUMER = 'script';

/** A durable consumer as users have one: it goes on where it was, through every restart of the server. */
class Subscriber implements AsyncDisposable {
  readonly #connection: NatsConnection;
  readonly #bySequence = new Map<number, { alert: string; state: string }>();
  readonly #stop = new AbortController();
  #reading: Promise<void> | undefined;

  private constructor(connection: NatsConnection) {
    this.#connection = connection;
  }

  static async start(url: string): Promise<Subscriber> {
    const connection = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
    const jsm = await jetstreamManager(connection);
    await jsm.consumers.add('GPUFLEET_ALERTS', {
      durable_name: CONSUMER,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: 5e9,
    });
    const subscriber = new Subscriber(connection);
    subscriber.#reading = subscriber.#read();
    return subscriber;
  }

  get count(): number {
    return this.#bySequence.size;
  }

  recorded(): Record<string, string[]> {
    const found: Record<string, string[]> = {};
    for (const [, { alert, state }] of [...this.#bySequence].sort(([a], [b]) => a - b)) {
      found[alert] ??= [];
      found[alert].push(state);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#connection.close();
    await this.#reading;
  }

  async #read(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const consumer = await jetstream(this.#connection).consumers.get('GPUFLEET_ALERTS', CONSUMER);
        for await (const message of await consumer.fetch({ max_messages: 500, expires: 1_000 })) {
          const { node, gpu, rule, state } = message.json<Record<string, string>>();
          const alert = `${node}/${gpu} ${rule}`;
          this.#bySequence.set(message.seq, { alert, state: state!.replace('ALERT_STATE_', '') });
          message.ack();
        }
      } catch {
        await sleep(200);
      }
    }
  }
}
