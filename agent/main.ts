#!/usr/bin/env node
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { describeError } from '#shared/errors/fleet-error.ts';
import { processMetrics } from '#shared/instruments/process-metrics.ts';
import { runMain } from '#shared/lifecycle/run-main.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { createLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import packageJson from '../package.json' with { type: 'json' };
import { Agent } from './agent.ts';
import { createCollectors } from './collect/registry.ts';
import type { HostPaths } from './collect/source-kind.ts';
import { type AgentConfig, loadAgentConfig } from './config.ts';
import { Exporter } from './expose/exporter.ts';
import { renderTicks } from './expose/exposition.ts';
import { channelCredentials } from './uplink/channel-credentials.ts';

const command = new Command('gpufleet-agent')
  .description(
    'Collects the samples of this GPU node, keeps them on disk, and streams them to an aggregator.',
  )
  .version(packageJson.version)
  .option('--config <file>', 'YAML file; every setting is in README.md')
  .option('--check-config', 'say what is wrong with the configuration, and exit (0 good, 2 not)')
  .addHelpText(
    'after',
    `
Environment (wins over the file):
  EXPORTER_PORT        port of /metrics, /healthz, /readyz (default 9400, or 9401 where that is taken)
  METRICS_PATH         path of the metrics (default /metrics)
  COLLECTION_INTERVAL  10s, 500ms; a bare number is milliseconds
  LOG_LEVEL            trace, debug, info, warn, error

Exit codes: 0 stopped in order, 1 failed, 2 bad configuration.`,
  )
  .parse(process.argv);

const options = command.opts<{ config?: string; checkConfig?: boolean }>();

await runMain(process, async (signal) => {
  const config = await loadAgentConfig(options.config, process.env);
  if (options.checkConfig) {
    process.stdout.write('the configuration is good\n');
    return;
  }
  await run(config, signal);
});

async function run(config: AgentConfig, signal: AbortSignal): Promise<void> {
  const logger = createLogger('gpufleet-agent', config.log_level);
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
  await using stack = new AsyncDisposableStack();
  const agents: Agent[] = [];
  for (const { node, directory, machineId } of nodesOf(config)) {
    const nodeLogger = agents.length === 0 && node === config.node ? logger : logger.child({ node });
    const agent = await Agent.open({
      config,
      node,
      directory,
      machineId,
      bootId,
      version: packageJson.version,
      credentials: await channelCredentials(config.tls),
      token: () => readToken(config.token_file),
      collectors: async (facts) => {
        const chosen = await createCollectors(config.collectors, {
          intervalMs: config.collection_interval,
          node,
          host: HOST,
          directory,
          facts,
          clock: systemClock,
          random: Math.random,
          logger: nodeLogger,
        });
        return chosen.collectors;
      },
      clock: systemClock,
      random: Math.random,
      logger: nodeLogger,
    });
    if (agents.length === 0) processMetrics(agent.registry, process);
    agents.push(stack.use(agent));
  }
  stack.use(
    await Exporter.listen({
      listen: config.exporter.listen,
      metricsPath: config.exporter.metrics_path,
      metrics: () => renderAll(agents),
      notReady: () => agents.map((agent) => agent.notReady).find((reason) => reason !== undefined),
      logger,
    }),
  );
  await supervise(
    signal,
    agents.map((agent) => (inner) => agent.run(inner)),
  );
}

const HOST: HostPaths = { proc: '/proc', sys: '/sys', dev: '/dev', run: '/run', root: '/' };

interface NodeOfProcess {
  readonly node: string;
  readonly directory: string;
  readonly machineId: string;
}

/** This host, or the simulated nodes sim-000, sim-001 ..., each an agent with a buffer and an identity of its own. */
function nodesOf(config: AgentConfig): NodeOfProcess[] {
  const { simulated } = config.collectors;
  const count = simulated ? simulated.nodes : 1;
  if (count === 1) return [{ node: config.node, directory: config.data_dir, machineId: config.machine_id }];
  return Array.from({ length: count }, (_, index) => {
    const node = `sim-${String(index).padStart(3, '0')}`;
    return { node, directory: join(config.data_dir, node), machineId: `${config.machine_id}-${node}` };
  });
}

/** Series of all nodes; the agent's own metrics once, of the first: names must not come twice. */
async function renderAll(agents: readonly Agent[]): Promise<string> {
  const ticks = agents.map((agent) => renderTicks(agent.ticks, agent.identity));
  return `${ticks.join('')}${await agents[0]!.registry.metrics()}`;
}

async function readToken(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new Error(`Cannot read token file ${file}: ${describeError(error)}`);
  }
}
