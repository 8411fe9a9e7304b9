import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import * as v from 'valibot';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { createLogger } from '#shared/logging/logger.ts';
import type { Block } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { StreamLink } from '../../aggregator/alerts/bus/stream-link.ts';
import { toSubject } from '../../aggregator/alerts/bus/subject.ts';
import { Publishing } from '../../aggregator/publish/publishing.ts';
import { publishSettings } from '../../aggregator/publish/settings.ts';
import { validationSettings } from '../../aggregator/validate/settings.ts';
import { Validation } from '../../aggregator/validate/validation.ts';
import { Child } from '../../deploy/local/child.ts';
import { findServer, NATS_SERVER } from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';
import { freePort } from '../../test/support/ports.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { binaryOr } from '../macro/servers.ts';
import { cpuSeconds } from '../peers/process-usage.ts';
import { loadTrace, type Trace } from '../trace.ts';

type Ticks = v.InferInput<typeof publishSettings>['ticks'];

/** Streams with a dictionary of their own each, as ingest has them. */
const NODES = 20;
/** Loaded to this, then it waits for the server: nothing is dropped, and the queue is never empty. */
const AHEAD_BYTES = 4 * 2 ** 20;
const READY_MS = 20_000;

/** What validation and the tick stream cost, against a real nats-server with JetStream on the same machine. */
export const tickStream: BenchCase = {
  name: 'tick-stream',
  description:
    'blocks of a node with 400 series through validation and publishing, with the tick stream off, on (frames) and enriched (JSON): CPU of the aggregator and of nats-server, bytes stored',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const found = await findServer(NATS_SERVER, options);
    const binary = binaryOr(found, 'nats-server', 'tick-stream', options.log);
    if (binary === undefined) return {};
    const blocks = blocksOf(loadTrace('1s', options));
    const directory = await mkdtemp(join(tmpdir(), 'gpufleet-bench-ticks-'));
    try {
      const port = await freePort();
      await using server = await Child.start({
        name: 'nats-server',
        command: binary,
        args: ['-js', '-a', '127.0.0.1', '-p', String(port), '-sd', directory],
      });
      const load: Load = {
        url: `nats://127.0.0.1:${port}`,
        serverPid: server.pid,
        blocks,
        tiny: options.tiny,
      };
      const frames = await published(load, 'GPUFLEET_TICKS', { enabled: true });
      const enriched = await published(load, 'GPUFLEET_ENRICHED', { enriched: true });
      const off = notPublished(blocks, options.tiny);
      return {
        cpu_seconds_per_million: frames.cpu,
        bytes_per_sample: frames.bytes,
        server_cpu_seconds_per_million: frames.serverCpu,
        off_cpu_seconds_per_million: off,
        validation_ns_per_sample: off * 1_000,
        enriched_cpu_seconds_per_million: enriched.cpu,
        enriched_bytes_per_sample: enriched.bytes,
        enriched_server_cpu_seconds_per_million: enriched.serverCpu,
      };
    } finally {
      await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    }
  },
};

interface Load {
  readonly url: string;
  readonly serverPid: number;
  readonly blocks: readonly Block[];
  readonly tiny: boolean;
}

/** In turn of the nodes. */
function blocksOf({ dictionary, rows, timestamps }: Trace): Block[] {
  // The trace has raw fields: what does not fit its metric's unit goes on under a name of its own, and is valid.
  const series = dictionary.series.map((one, slot) => {
    const { min, max } = metricNamed(one.name) ?? { min: -Infinity, max: Infinity };
    const fits = rows.every((values) => values[slot]! >= min && values[slot]! <= max);
    return fits ? one : { ...one, name: `trace_${one.name}` };
  });
  const { group, intervalMs } = dictionary;
  const nodes = Array.from({ length: NODES }, (_, i) => ({
    source: { cluster: 'bench', node: `gpu-node-${String(i).padStart(4, '0')}`, externalLabels: [] },
    dictionary: createDictionary(group, intervalMs, series),
  }));
  const states = new Uint8Array(series.length);
  const shiftMs = Date.now() - timestamps.at(-1)!;
  return rows.flatMap((values, i) =>
    nodes.map((node) => ({
      ...node,
      ...{ live: true, timestampMs: Math.round(timestamps[i]! + shiftMs), values, states },
    })),
  );
}

/** The two stages in the order of the pipeline. */
function stagesOf(ticks: Ticks) {
  const registry = createRegistry();
  const publishing = new Publishing({
    settings: v.parse(publishSettings, { rejected: false, ticks, max_bytes: '4GiB' }),
    ...{ replicas: 1, toSubject, clock: systemClock, registry },
  });
  const validation = new Validation({
    settings: v.parse(validationSettings, {}),
    ...{ clock: systemClock, registry },
    onRejected: () => {
      throw new Error('a sample was rejected: something else is measured');
    },
  });
  const take = (block: Block): void => {
    const valid = validation.check(block);
    if (valid) publishing.tick(valid);
  };
  return { publishing, registry, take };
}

async function published({ url, serverPid, blocks, tiny }: Load, stream: string, ticks: Ticks) {
  const { publishing, registry, take } = stagesOf(ticks);
  const link = new StreamLink({
    servers: [url],
    logger: createLogger('bench', 'error'),
    random: Math.random,
    streams: publishing.streams,
    begin: (door) => publishing.begin(door),
    end: () => publishing.end(),
  });
  await using _link = link;
  await until(() => link.status().connected, { timeoutMs: READY_MS, what: 'connected to nats-server' });
  const stored = () =>
    until(() => publishing.waitingBytes === 0, { timeoutMs: READY_MS, what: 'all is stored' });
  const offer = async (block: Block, i: number): Promise<void> => {
    take(block);
    if (publishing.waitingBytes > AHEAD_BYTES) await sleep(1);
    else if (i % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  for (let i = 0; i < (tiny ? NODES : 50 * NODES); i++) await offer(blocks[i % blocks.length]!, i);
  await stored();
  const serverBefore = cpuSeconds(serverPid);
  const cpuBefore = process.cpuUsage();
  const endMs = performance.now() + (tiny ? 50 : 3_000);
  let samples = 0;
  for (let i = 0; performance.now() < endMs; i = (i + 1) % blocks.length) {
    await offer(blocks[i]!, i);
    samples += blocks[i]!.values.length;
  }
  await stored();
  const { user, system } = process.cpuUsage(cpuBefore);
  const server = cpuSeconds(serverPid) - serverBefore;
  const dropped = await registry.getSingleMetric('gpufleet_publish_dropped_total')!.get();
  if (dropped.values.some(({ value }) => value > 0))
    throw new Error('messages were dropped: nothing is measured');
  await publishing.close();
  const { messages, bytes } = await stateOf(url, stream);
  return {
    cpu: (user + system) / samples,
    serverCpu: (server * 1e6) / samples,
    bytes: bytes / (messages * blocks[0]!.values.length),
  };
}

/** CPU-seconds a million samples of both stages with nothing to publish. */
function notPublished(blocks: readonly Block[], tiny: boolean): number {
  const { take } = stagesOf({});
  for (const block of blocks) take(block);
  const rounds = tiny ? 1 : 20;
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) for (const block of blocks) take(block);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / (rounds * blocks.length * blocks[0]!.values.length);
}

async function stateOf(url: string, stream: string) {
  const connection = await connect({ servers: url });
  try {
    return (await (await jetstreamManager(connection)).streams.info(stream)).state;
  } finally {
    await connection.close();
  }
}
