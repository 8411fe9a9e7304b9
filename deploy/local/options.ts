import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '#shared/config/values.ts';
import { LOG_LEVELS, type LogLevel } from '#shared/logging/logger.ts';

/** What `npm start` was asked for. */
export interface StartOptions {
  /** Simulated nodes; undefined: one, unless there is something real to watch. */
  readonly nodes: number | undefined;
  /** A dcgm-exporter to scrape. */
  readonly source: string | undefined;
  /** Absolute path. */
  readonly data: string;
  readonly embedded: boolean;
  readonly interval: string;
  readonly logLevel: LogLevel;
  readonly ports: Ports;
  /** Servers that run already, instead of our own. */
  readonly victoriaMetrics: string | undefined;
  readonly nats: string | undefined;
}

export interface Ports {
  readonly ingest: number;
  readonly api: number;
  readonly agent: number;
  readonly victoriaMetrics: number;
  readonly nats: number;
}

interface Parsed extends Omit<StartOptions, 'ports'> {
  readonly ingestPort: number;
  readonly apiPort: number;
  readonly agentPort: number;
  readonly victoriaMetricsPort: number;
  readonly natsPort: number;
}

const EXAMPLES = `
Examples:
  npm start                                            this host's GPUs, or a simulated node with 8
  npm start -- --nodes 20                              twenty simulated nodes
  npm start -- --source http://127.0.0.1:9400/metrics  the GPUs behind a dcgm-exporter
  npm start -- --data /srv/gpufleet                    keep everything there
  npm start -- --embedded                              without VictoriaMetrics and NATS: no history, no subscribers
  npm start -- --victoria-metrics http://10.0.0.5:8428 --nats nats://10.0.0.6:4222

Everything listens on loopback. Ctrl-C stops in order; a second Ctrl-C at once. Starting again goes on with the data.`;

/** Commander prints help and faults itself and ends the process, with status 0 and 1. */
export function parseStartOptions(argv: readonly string[]): StartOptions {
  const command = new Command('npm start --')
    .description('Run gpufleet on this host: VictoriaMetrics, nats-server, an aggregator and an agent.')
    .addOption(option('--nodes <count>', 'simulated nodes of 8 GPUs, in one agent process', integer(1, 1000)))
    .addOption(
      option('--source <url>', 'a dcgm-exporter to scrape')
        .argParser(url(['http:', 'https:']))
        .conflicts('nodes'),
    )
    .option(
      '--data <dir>',
      'where data, configuration and logs are kept',
      (dir) => resolve(dir),
      resolve('data'),
    )
    .option('--embedded', 'run without VictoriaMetrics and NATS', false)
    .addOption(
      option('--interval <duration>', 'how often sources are read: 500ms, 10s', interval).default('1s'),
    )
    .addOption(option('--log-level <level>', 'of agent and aggregator').choices(LOG_LEVELS).default('info'))
    .addOption(port('--ingest-port', 7400, 'the aggregator takes agents (gRPC) here'))
    .addOption(port('--api-port', 7480, 'API and console'))
    .addOption(port('--agent-port', 9400, "the agent's /metrics; the next port where it is taken"))
    .addOption(port('--victoria-metrics-port', 8428, 'VictoriaMetrics'))
    .addOption(port('--nats-port', 4222, 'NATS'))
    .addOption(
      option(
        '--victoria-metrics <url>',
        'use this one instead of starting one',
        url(['http:', 'https:']),
      ).conflicts('embedded'),
    )
    .addOption(
      option('--nats <url>', 'use this one instead of starting one', url(['nats:'])).conflicts('embedded'),
    )
    .allowExcessArguments(false)
    .addHelpText('after', EXAMPLES);
  const parsed = command.parse(argv, { from: 'user' }).opts<Parsed>();
  return {
    nodes: parsed.nodes,
    source: parsed.source,
    data: parsed.data,
    embedded: parsed.embedded,
    interval: parsed.interval,
    logLevel: parsed.logLevel,
    victoriaMetrics: parsed.victoriaMetrics,
    nats: parsed.nats,
    ports: {
      ingest: parsed.ingestPort,
      api: parsed.apiPort,
      agent: parsed.agentPort,
      victoriaMetrics: parsed.victoriaMetricsPort,
      nats: parsed.natsPort,
    },
  };
}

function option<T>(flags: string, description: string, parse?: (text: string) => T): Option {
  const created = new Option(flags, description);
  return parse === undefined ? created : created.argParser(parse);
}

function port(flag: string, fallback: number, description: string): Option {
  return option(`${flag} <port>`, description, integer(1, 65_535)).default(fallback);
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

function url(protocols: readonly string[]): (text: string) => string {
  return (text) => {
    const parsed = URL.parse(text);
    if (parsed !== null && protocols.includes(parsed.protocol)) return text.replace(/\/$/, '');
    throw new InvalidArgumentError(`It must be a URL that begins with ${protocols.join('// or ')}//.`);
  };
}

function interval(text: string): string {
  if (parseDuration(text) !== undefined) return text;
  throw new InvalidArgumentError('It must be a duration such as 500ms, 1s, 10s.');
}
