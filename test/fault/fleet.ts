import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { stringify } from 'yaml';
import { freePort } from '../support/ports.ts';
import type { LedgerEntry } from './ledger.ts';
import { namespaceLink, proxyLink } from './link.ts';
import { NodeUnderTest } from './node-under-test.ts';
import { CLUSTER } from './oracle-source.ts';
import { Program } from './program.ts';
import { RealStore } from './real-store.ts';

export interface FleetOptions {
  readonly seed: number;
  /** Everything lies below: logs, witness, disks, the servers' data. */
  readonly directory: string;
  readonly binaries: { readonly victoriaMetrics: string; readonly nats: string };
  /** We are alone in network, mount and process namespaces: addresses and mounts are ours to make. */
  readonly isolated: boolean;
  readonly nodes: readonly string[];
  readonly clones: readonly string[];
  readonly smallRingNode: string;
  readonly smallRingBytes: number;
}

const AGGREGATOR = join(import.meta.dirname, '../../aggregator/main.ts');
/** Never trims. */
const LARGE_RING_BYTES = 64 * 2 ** 20;
const EVENTS_STREAM = 'GPUFLEET_EVENTS';
/** What protobuf's JSON leaves out. */
const EPOCH = '1970-01-01T00:00:00Z';
const LEDGER_PAGE = 1_000;

interface LossOfApi {
  readonly node: string;
  readonly from?: string;
  readonly to?: string;
  readonly samples?: string | number;
  readonly reason: string;
  readonly estimated?: boolean;
  readonly detail?: string;
}

/** The whole fleet: real servers, the real aggregator, and nodes whose every sample is known. */
export class Fleet implements AsyncDisposable {
  readonly store: RealStore;
  readonly nats: Program;
  readonly aggregator: Program;
  readonly nodes: ReadonlyMap<string, NodeUnderTest>;
  readonly #natsUrl: string;
  readonly #apiUrl: string;

  private constructor(
    store: RealStore,
    nats: Program,
    natsUrl: string,
    aggregator: Program,
    apiUrl: string,
    nodes: ReadonlyMap<string, NodeUnderTest>,
  ) {
    this.store = store;
    this.nats = nats;
    this.aggregator = aggregator;
    this.nodes = nodes;
    this.#natsUrl = natsUrl;
    this.#apiUrl = apiUrl;
  }

  /** Nothing is started yet. */
  static async create(options: FleetOptions): Promise<Fleet> {
    const { seed, directory, binaries, isolated, smallRingNode } = options;
    const at = (name: string): string => join(directory, name);
    const log = (name: string): string => join(directory, 'logs', `${name}.log`);
    for (const name of ['logs', 'witness', 'disks']) mkdirSync(at(name), { recursive: true });
    // Alone in a namespace every port is free, and this finds one as well as any.
    const ports = {
      store: await freePort(),
      nats: await freePort(),
      ingest: await freePort(),
      api: await freePort(),
    };
    const [natsUrl, apiUrl] = [`nats://127.0.0.1:${ports.nats}`, `http://127.0.0.1:${ports.api}`];
    const store = new RealStore(binaries.victoriaMetrics, directory, ports.store, log('store'));
    const nats = new Program({
      name: 'nats',
      command: [binaries.nats],
      args: ['-js', '-a', '127.0.0.1', '-p', String(ports.nats), '-sd', at('nats')],
      log: log('nats'),
      isReady: () => greets(natsUrl),
    });
    const config = {
      cluster: CLUSTER,
      shard: 'shard-0',
      data_dir: at('aggregator'),
      store: { url: store.url },
      nats: { servers: [natsUrl] },
      ingest: {
        listen: `${isolated ? '0.0.0.0' : '127.0.0.1'}:${ports.ingest}`,
        ...(isolated && { allow_unauthenticated: true }),
      },
      api: { listen: `127.0.0.1:${ports.api}` },
    };
    writeFileSync(at('aggregator.yaml'), stringify(config));
    const aggregator = new Program({
      name: 'aggregator',
      command: [process.execPath, AGGREGATOR],
      args: ['--config', at('aggregator.yaml')],
      log: log('aggregator'),
      isReady: async () => (await fetch(`${apiUrl}/healthz`, { signal: AbortSignal.timeout(2_000) })).ok,
    });
    const nodes = new Map<string, NodeUnderTest>();
    for (const [index, node] of [...options.nodes, ...options.clones].entries()) {
      const link = isolated ? await namespaceLink(index, ports.ingest) : await proxyLink(ports.ingest);
      const maxBytes = node === smallRingNode ? options.smallRingBytes : LARGE_RING_BYTES;
      nodes.set(
        node,
        await NodeUnderTest.create({
          seed,
          cluster: CLUSTER,
          node,
          directory,
          mountable: isolated,
          link,
          maxBytes,
        }),
      );
    }
    return new Fleet(store, nats, natsUrl, aggregator, apiUrl, nodes);
  }

  node(name: string): NodeUnderTest {
    const node = this.nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}`);
    return node;
  }

  /** What ended although nothing was done to it. */
  get deaths(): string[] {
    return [this.store.program, this.nats, this.aggregator, ...this.nodes.values()].flatMap(
      ({ deaths }) => deaths,
    );
  }

  async losses(): Promise<LedgerEntry[]> {
    const losses: LossOfApi[] = [];
    let token = '';
    do {
      const query = new URLSearchParams({ page_size: String(LEDGER_PAGE), page_token: token });
      const response = await fetch(`${this.#apiUrl}/api/v1/losses?${query}`);
      if (!response.ok)
        throw new Error(`Cannot read the loss ledger: ${response.status} ${await response.text()}`);
      const page = (await response.json()) as { losses?: LossOfApi[]; next_page_token?: string };
      losses.push(...(page.losses ?? []));
      token = page.next_page_token ?? '';
    } while (token !== '');
    return losses.map(({ node, from, to, samples, reason, estimated, detail }) => ({
      node,
      fromMs: Date.parse(from ?? EPOCH),
      toMs: Date.parse(to ?? EPOCH),
      samples: Number(samples ?? 0),
      reason,
      estimated: estimated ?? false,
      detail: detail ?? '',
    }));
  }

  /** Ids of the oracle's events that a subscriber of the stream gets. */
  async deliveredEvents(): Promise<Set<string>> {
    const connection = await connect({ servers: [this.#natsUrl] });
    try {
      const { streams } = await jetstreamManager(connection);
      const { state } = await streams.info(EVENTS_STREAM);
      const ids = new Set<string>();
      for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        const message = await streams.getMessage(EVENTS_STREAM, { seq });
        const event = message?.json<{ type: string; attributes: Record<string, string> }>();
        if (event?.type === 'oracle') ids.add(event.attributes.id ?? '');
      }
      return ids;
    } finally {
      await connection.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes.values()) await node[Symbol.asyncDispose]();
    for (const program of [this.aggregator, this.nats, this.store.program])
      await program[Symbol.asyncDispose]();
  }
}

async function greets(url: string): Promise<boolean> {
  const connection = await connect({ servers: [url], reconnect: false, timeout: 1_000 });
  await connection.close();
  return true;
}
