import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { ServerCredentials } from '@grpc/grpc-js';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { RuleWatch } from '../../aggregator/alerts/aggregate/rule-watch.ts';
import { AlertEngine } from '../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../aggregator/alerts/rules/rules-file.ts';
import { DetectionEngine } from '../../aggregator/health/detect/detection-engine.ts';
import { HealthEngine } from '../../aggregator/health/health-engine.ts';
import { PeerRows } from '../../aggregator/health/peers/peer-rows.ts';
import { IngestServer } from '../../aggregator/ingest/ingest-server.ts';
import type { IngestSink, Outcome } from '../../aggregator/ingest/ingest-sink.ts';
import { LatestTable } from '../../aggregator/store/latest.ts';
import { Validation } from '../../aggregator/validate/validation.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import type { LoadOptions, LoadResult } from './stream-load.ts';

const STREAMS = 50;
/** The load carries the trace's own times. */
const ANY_TIME = Number.MAX_SAFE_INTEGER;
const RULES = new URL('../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);

/** One-tick frames from another process, decoded, validated, kept as latest values, scored, watched, put to the rules, acknowledged. */
export const ingest: BenchCase = {
  name: 'ingest',
  description: `one-tick frames over ${STREAMS} gRPC streams, health, detectors and rules on, store off: samples for each CPU second`,
  async run(options: BenchOptions): Promise<BenchMetrics> {
    await using server = await listen();
    const { samples, cpuSeconds, wallSeconds } = await load(server.address.port, options);
    return {
      samples_per_core_second: samples / cpuSeconds,
      samples_per_second: samples / wallSeconds,
      cpu_seconds_per_million_samples: (cpuSeconds * 1e6) / samples,
    };
  },
};

function listen(): Promise<IngestServer> {
  const registry = createRegistry();
  const { rules } = parseRules(readFileSync(RULES, 'utf8'), 'the shipped rules');
  const alerts = new AlertEngine({ rules, clock: systemClock, registry });
  const groups = new RuleWatch({
    ...{ engine: alerts, clock: systemClock, registry },
    groupsOf: () => ({}),
    connected: () => true,
  });
  groups.setRules(rules);
  const health = new HealthEngine({ clock: systemClock, registry });
  const detection = new DetectionEngine({ clock: systemClock, registry });
  const rows = new PeerRows();
  const validation = new Validation({
    settings: { enabled: true, future_tolerance: ANY_TIME, past_tolerance: ANY_TIME },
    ...{ clock: systemClock, registry },
    onRejected: () => {},
  });
  const latest = new LatestTable({ clock: systemClock, registry });
  const accepted: Outcome = { state: 'accepted', epoch: 1n };
  const sink: IngestSink = {
    connected: (peer) => latest.connected(peer),
    disconnected: ({ source }) => latest.disconnected(source),
    async block(block) {
      const valid = validation.check(block);
      if (valid === undefined) return accepted;
      latest.apply(valid);
      health.evaluate(valid);
      detection.evaluate(valid);
      rows.evaluate(valid);
      alerts.evaluate(valid);
      groups.evaluate(valid);
      return accepted;
    },
    status() {},
    replays: () => [],
    span: async () => accepted,
    event: async () => accepted,
    loss: async () => accepted,
    store: { epoch: 1n, epochAgeMs: 0, backfillOpen: true },
  };
  return IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink,
    shard: 'bench',
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    clock: systemClock,
    logger: silentLogger,
    registry,
  });
}

async function load(port: number, { seed, tiny, dataDir }: BenchOptions) {
  const child = fork(new URL('./stream-load.ts', import.meta.url), {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const began = performance.now();
  const before = process.cpuUsage();
  child.send({
    port,
    streams: tiny ? 2 : STREAMS,
    seconds: tiny ? 0.2 : 5,
    bench: { seed, tiny, dataDir },
  } satisfies LoadOptions);
  const outcome = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [
    LoadResult | number,
  ];
  const { user, system } = process.cpuUsage(before);
  const wallSeconds = (performance.now() - began) / 1000;
  child.kill();
  const [result] = outcome;
  if (typeof result !== 'object' || result === null)
    throw new Error(`the load ended with exit code ${result}`);
  return { samples: result.samples, cpuSeconds: (user + system) / 1e6, wallSeconds };
}
