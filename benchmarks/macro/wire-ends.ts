import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, ServerCredentials } from '@grpc/grpc-js';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { Agent } from '../../agent/agent.ts';
import type { Collector } from '../../agent/collect/collector.ts';
import { IngestServer } from '../../aggregator/ingest/ingest-server.ts';
import type { IngestSink, Outcome } from '../../aggregator/ingest/ingest-sink.ts';
import { until } from '../../deploy/local/until.ts';
import { TestAuthority } from '../../test/shared/security/certificates.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchOptions } from '../bench-case.ts';
import { loadTrace, type Trace } from '../trace.ts';
import { serve } from './program.ts';

/*
 * Both ends of the wire case, in a network namespace of their own: its loopback carries nothing else. Each agent
 * plays a piece of the trace of its own at the trace's own pace, so that acknowledgements, the kernel's delayed
 * ACKs, status messages and keepalives are as frequent for a tick as they are in a fleet; many agents at once
 * bring the whole trace through in half a minute.
 */
export interface WireOptions {
  readonly tls: boolean;
  readonly bench: Omit<BenchOptions, 'log'>;
}

export interface WireResult {
  readonly samples: number;
  readonly ticks: number;
  /** IP packets and their bytes (link layer not counted), both directions together. */
  readonly packets: number;
  readonly bytes: number;
  /** Of one stream: handshakes, Hello, dictionary and what the first keyframe is more than a later frame. */
  readonly setupBytes: number;
}

const AGENTS = 20;
/** One keepalive of the aggregator (30 s) falls into it; its status messages come every 5 s. */
const MEASURED_MS = 30_000;
/** Connecting, the dictionary, the keyframe, and the kernel's quick ACKs of a young connection are over then. */
const WARM_UP_MS = 5_000;
/** Ethernet's, so that a packet is what it is on a network. */
const MTU = 1500;

// The certificate names an address, as few do; Node says so at each connection.
process.noDeprecation = true;
serve(measure);

async function measure({ tls, bench }: WireOptions): Promise<WireResult> {
  // Packets are cut as a network card would send them, not handed over in aggregates with one header for many.
  execFileSync('ip', ['link', 'set', 'lo', 'mtu', `${MTU}`, 'gso_max_segs', '1', 'up']);
  const trace = loadTrace('1s', { ...bench, log: (line) => void process.stderr.write(`${line}\n`) });
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('wire'));
  const authority = tls ? stack.use(await TestAuthority.create()) : undefined;
  const sink = new CountingSink();
  const server = stack.use(await listen(sink, authority));
  const before = countLoopback();
  const agents = bench.tiny ? 2 : AGENTS;
  const intervalMs = bench.tiny ? 100 : trace.dictionary.intervalMs;
  const stop = new AbortController();
  const running: Promise<void>[] = [];
  for (let i = 0; i < agents; i++) {
    const from = Math.floor((i * trace.rows.length) / agents);
    const collector = replay(trace, from, intervalMs);
    const agent = stack.use(
      await openAgent(join(dir.path, `${i}`), `node-${i}`, server.address.port, collector, authority),
    );
    running.push(agent.run(stop.signal));
  }
  try {
    await until(() => sink.streaming.size === agents, { timeoutMs: 30_000, what: 'every agent streams' });
    await sleep(bench.tiny ? 300 : WARM_UP_MS);
    const begin = { ...countLoopback(), ticks: sink.ticks, backlog: sink.backlog };
    await sleep(bench.tiny ? 500 : MEASURED_MS);
    const end = { ...countLoopback(), ticks: sink.ticks };
    if (sink.backlog > begin.backlog)
      throw new Error('ticks came by the backlog: nothing steady was measured');
    const ticks = end.ticks - begin.ticks;
    const bytes = end.bytes - begin.bytes;
    return {
      samples: ticks * trace.dictionary.series.length,
      ticks,
      bytes,
      packets: end.packets - begin.packets,
      setupBytes: (begin.bytes - before.bytes - (begin.ticks * bytes) / ticks) / agents,
    };
  } finally {
    stop.abort();
    await Promise.all(running);
  }
}

/** Loopback counts a packet twice, as sent and as received: one is read. Its bytes begin at the IP header. */
function countLoopback(): { bytes: number; packets: number } {
  const line = readFileSync('/proc/self/net/dev', 'utf8').match(/^\s*lo:\s*(\d+)\s+(\d+)/m);
  if (!line) throw new Error('Cannot count: the namespace has no loopback');
  return { bytes: Number(line[1]), packets: Number(line[2]) };
}

class CountingSink implements IngestSink {
  ticks = 0;
  backlog = 0;
  readonly streaming = new Set<Source>();
  readonly store = { epoch: 0x1234_5678_9abc_def0n, epochAgeMs: 2_500, backfillOpen: true };
  readonly #accepted: Outcome = { state: 'accepted', epoch: this.store.epoch };

  connected(): void {}
  disconnected(): void {}
  status(): void {}
  replays(): [] {
    return [];
  }
  async block({ source, live }: Block): Promise<Outcome> {
    this.ticks++;
    if (live) this.streaming.add(source);
    else this.backlog++;
    return this.#accepted;
  }
  async span({ ticks }: BlockSpan): Promise<Outcome> {
    this.backlog += ticks;
    return this.#accepted;
  }
  async event(): Promise<Outcome> {
    return this.#accepted;
  }
  async loss(): Promise<Outcome> {
    return this.#accepted;
  }
}

async function listen(sink: IngestSink, authority: TestAuthority | undefined): Promise<IngestServer> {
  const files = authority && (await authority.issue('aggregator', 'IP:127.0.0.1'));
  return IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: files
      ? ServerCredentials.createSsl(null, [
          { private_key: readFileSync(files.key), cert_chain: readFileSync(files.cert) },
        ])
      : ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink,
    shard: 'bench',
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
  });
}

function openAgent(
  directory: string,
  node: string,
  port: number,
  collector: Collector,
  authority: TestAuthority | undefined,
): Promise<Agent> {
  return Agent.open({
    config: {
      cluster: 'bench',
      external_labels: {},
      aggregators: [{ host: '127.0.0.1', port }],
      buffer: { max_age: 3_600_000, max_bytes: 2 ** 30 },
    },
    node,
    directory,
    machineId: node,
    bootId: 'bench',
    version: '0.0.0',
    credentials: authority ? credentials.createSsl(readFileSync(authority.ca)) : credentials.createInsecure(),
    token: async () => undefined,
    collectors: () => [collector],
    clock: systemClock,
    random: Math.random,
    logger: silentLogger,
  });
}

/** A source that reads the trace from row `from` on, round and round. */
function replay({ dictionary, rows }: Trace, from: number, intervalMs: number): Collector {
  const states = new Uint8Array(dictionary.series.length).fill(SlotState.Present);
  let row = from;
  return {
    name: 'trace',
    intervalMs,
    rank: 50,
    holdsDevice: false,
    describe: () => 'a test',
    collect: async () => ({
      dictionary,
      timestampMs: 0,
      values: rows[row++ % rows.length]!,
      states,
      events: [],
      rejected: new Map(),
    }),
    async [Symbol.asyncDispose]() {},
  };
}
