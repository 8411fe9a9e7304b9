import { credentials } from '@grpc/grpc-js';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { Agent } from '../../agent/agent.ts';
import type { Collector } from '../../agent/collect/collector.ts';
import { createDcgmExporterCollector } from '../../agent/collect/nvidia/dcgm-exporter/collector.ts';
import type { BenchOptions } from '../bench-case.ts';
import { loadTrace } from '../trace.ts';
import { BENCH_CLUSTER, dictionaryOf } from './bench-nodes.ts';
import { serve } from './program.ts';

/*
 * Real agents, several in one process, each with its own buffer and stream: on a small machine a process for each
 * would measure Node's start-up. Each reads an exporter, or plays the trace.
 */
export interface AgentsOptions {
  readonly agents: readonly { readonly node: string; readonly directory: string; readonly url?: string }[];
  readonly aggregator: { readonly host: string; readonly port: number };
  readonly intervalMs: number;
  /** Of the trace, where an agent has no url. */
  readonly bench: Omit<BenchOptions, 'log'>;
}

export type AgentsRequest =
  | { readonly kind: 'start'; readonly options: AgentsOptions }
  /** Answered with the number of records that are neither in flight nor in the store, of all agents. */
  | { readonly kind: 'backlog' };

/** What keeps a backlog of half a day. */
const BUFFER = { max_age: 7 * 86_400_000, max_bytes: 2 ** 34 };

const agents: Agent[] = [];

serve<AgentsRequest>(async (request) => {
  if (request.kind === 'start') return start(request.options);
  const counts = await Promise.all(
    agents.map(async ({ registry }) => {
      const metric = await registry.getSingleMetric('gpufleet_agent_backlog_records')?.get();
      return metric?.values[0]?.value ?? Number.NaN;
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
});

async function start(options: AgentsOptions): Promise<void> {
  for (const { node, directory, url } of options.agents) {
    const agent = await Agent.open({
      config: {
        cluster: BENCH_CLUSTER,
        external_labels: {},
        aggregators: [options.aggregator],
        buffer: BUFFER,
      },
      directory,
      node,
      machineId: node,
      bootId: 'bench',
      version: '0.0.0',
      credentials: credentials.createInsecure(),
      token: async () => undefined,
      collectors: (facts) => [
        url === undefined
          ? traceCollector(node, options)
          : createDcgmExporterCollector({
              url,
              intervalMs: options.intervalMs,
              naming: 'canonical',
              clock: systemClock,
              lastXids: {
                get: () => undefined,
                set: (uuid, code) => facts.set(`xid/${uuid}`, String(code)),
              },
              logger: silentLogger,
            }),
      ],
      clock: systemClock,
      random: Math.random,
      logger: silentLogger,
    });
    agents.push(agent);
  }
  // Until the process is killed: a benchmark of a loss is one of a crash.
  const never = new AbortController().signal;
  for (const agent of agents) void agent.run(never);
}

function traceCollector(node: string, { intervalMs, bench }: AgentsOptions): Collector {
  const trace = loadTrace('1s', { ...bench, log: () => {} });
  const dictionary = dictionaryOf(node, { ...trace.dictionary, intervalMs });
  const states = new Uint8Array(dictionary.series.length);
  let next = 0;
  return {
    name: dictionary.group,
    intervalMs,
    rank: 50,
    holdsDevice: false,
    describe: () => 'a test',
    collect: async () => ({
      dictionary,
      timestampMs: systemClock.now(),
      values: trace.rows[next++ % trace.rows.length]!,
      states,
      events: [],
      rejected: new Map(),
    }),
    async [Symbol.asyncDispose]() {},
  };
}
