#!/usr/bin/env node
import { Command } from 'commander';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { processMetrics } from '#shared/instruments/process-metrics.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { runMain } from '#shared/lifecycle/run-main.ts';
import { createLogger, type Logger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import {
  certificateNode,
  type PeerCertificateFacts,
  readListenerTls,
} from '#shared/security/listener-tls.ts';
import { TokenFile } from '#shared/security/tokens.ts';
import packageJson from '../package.json' with { type: 'json' };
import { Aggregator } from './aggregator.ts';
import { alertAccess } from './alerting-view.ts';
import { checkFiles } from './alerts/check-files.ts';
import { type AggregatorConfig, loadAggregatorConfig } from './config.ts';
import { createFleetView } from './fleet-view.ts';
import type { Credential } from './ingest/ingest-server.ts';
import { serverCredentials } from './ingest/server-credentials.ts';
import { ApiServer } from './query/api-server.ts';

const command = new Command('gpufleet-aggregator')
  .description(
    "Takes the fleet's streams, writes to VictoriaMetrics, knows each GPU's health, and alerts over NATS.",
  )
  .version(packageJson.version)
  .option('--config <file>', 'YAML file; every setting is in README.md')
  .option(
    '--check-config',
    'say what is wrong with the configuration and the files of alerts that it names, and exit (0 good, 2 not)',
  )
  .addHelpText(
    'after',
    `
Environment: LOG_LEVEL (trace, debug, info, warn, error) wins over the file.

Exit codes: 0 stopped in order, 1 failed, 2 bad configuration.`,
  )
  .parse(process.argv);

const options = command.opts<{ config?: string; checkConfig?: boolean }>();

await runMain(process, async (signal) => {
  const config = await loadAggregatorConfig(options.config, process.env);
  if (options.checkConfig) return checkAlertFiles(config);
  await run(config, signal);
});

/** The configuration itself has been read: what is left is what it names. */
async function checkAlertFiles({ alerts }: AggregatorConfig): Promise<void> {
  const faults = await checkFiles(alerts);
  for (const fault of faults.slice(0, -1)) process.stderr.write(`${fault}\n`);
  if (faults.length > 0) throw new FleetError('invalid_config', faults.at(-1)!);
  process.stdout.write('the configuration is good\n');
}

async function run(config: AggregatorConfig, signal: AbortSignal): Promise<void> {
  const logger = createLogger('gpufleet-aggregator', config.log_level);
  const registry = createRegistry();
  processMetrics(registry, process);
  const ingestTls = config.ingest.tls && (await readListenerTls(config.ingest.tls));
  const apiTls = config.api.tls && (await readListenerTls(config.api.tls));
  const apiTokens = tokensOf(config.api.tokens, logger);
  await using aggregator = await Aggregator.open({
    config,
    clock: systemClock,
    random: Math.random,
    logger,
    registry,
    ingest: {
      credentials: serverCredentials(ingestTls),
      authenticate: authenticator(tokensOf(config.ingest.tokens, logger), ingestTls?.ca !== undefined),
    },
  });
  await using _api = await ApiServer.listen({
    listen: config.api.listen,
    tls: apiTls,
    view: createFleetView(
      aggregator.latest,
      alertAccess(aggregator.alerting, systemClock),
      aggregator.assessment.health,
      aggregator.lists,
      aggregator.healthView,
    ),
    access: {
      check: apiTokens && ((token) => apiTokens.check(token)),
      anonymousRead: config.api.anonymous_read,
    },
    guard: { allowedHosts: config.api.allowed_hosts, allowedOrigins: config.api.allowed_origins },
    notes: () => aggregator.notes,
    logger,
    registry,
  });
  await aggregator.run(signal);
}

function tokensOf(path: string | undefined, logger: Logger): TokenFile | undefined {
  return path === undefined
    ? undefined
    : new TokenFile(
        path,
        () => systemClock.monotonic(),
        (problem) => logger.error(problem),
      );
}

/** A certificate binds the node; a token must be an agent's; both may be asked for, and then both must agree. */
function authenticator(tokens: TokenFile | undefined, mutual: boolean) {
  return (bearer: string | undefined, certificate: unknown): Credential | undefined => {
    const certified = mutual ? certificateNode(certificate as PeerCertificateFacts | undefined) : undefined;
    if (mutual && certified === undefined) return undefined;
    if (!tokens) return { node: certified };
    const caller = tokens.check(bearer);
    if (caller?.role !== 'agent') return undefined;
    if (certified !== undefined && caller.node !== undefined && caller.node !== certified) return undefined;
    return { node: certified ?? caller.node };
  };
}
