import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { LogLevel } from '#shared/logging/logger.ts';
import type { Ports } from './options.ts';

/** What the agent watches: simulated nodes, a dcgm-exporter, or what it finds on this host (in words for people). */
export type Source = { readonly nodes: number } | { readonly url: string } | { readonly host: string };

export interface StackSettings {
  /** Absolute. */
  readonly data: string;
  readonly source: Source;
  readonly interval: string;
  readonly logLevel: LogLevel;
  readonly ports: Ports;
  /** Absent: no history. */
  readonly victoriaMetrics: string | undefined;
  /** nats://host:port; absent: no subscribers. */
  readonly nats: string | undefined;
}

export interface StackFiles {
  readonly agent: string;
  readonly aggregator: string;
  readonly tokens: string;
  /** What our own VictoriaMetrics scrapes. */
  readonly scrape: string;
}

/** Writes the configuration of agent and aggregator below `<data>/config`, and the token file once. */
export function writeStackConfig(settings: StackSettings): StackFiles {
  const folder = join(settings.data, 'config');
  mkdirSync(folder, { recursive: true });
  const files: StackFiles = {
    agent: join(folder, 'agent.yaml'),
    aggregator: join(folder, 'aggregator.yaml'),
    tokens: join(settings.data, 'tokens'),
    scrape: join(folder, 'scrape.yaml'),
  };
  if (!existsSync(files.tokens)) writeFileSync(files.tokens, newTokens(), { mode: 0o600 });
  writeYaml(files.agent, agentConfig(settings));
  writeYaml(files.aggregator, aggregatorConfig(settings, files.tokens));
  writeYaml(files.scrape, scrapeConfig(settings.ports.api, readToken(files.tokens, 'viewer')));
  return files;
}

export function agentConfig({ data, source, interval, logLevel, ports }: StackSettings): object {
  const simulated = 'nodes' in source;
  return {
    cluster: 'local',
    ...(simulated && source.nodes === 1 ? { node: 'sim-000' } : {}),
    data_dir: join(data, 'agent'),
    aggregators: [`127.0.0.1:${ports.ingest}`],
    ...('host' in source ? {} : { collectors: collectorsOf(source) }),
    collection_interval: interval,
    exporter: { listen: `127.0.0.1:${ports.agent}` },
    log_level: logLevel,
  };
}

function collectorsOf(source: Exclude<Source, { readonly host: string }>): object {
  return 'url' in source
    ? { dcgm_exporter: { url: source.url } }
    : { simulated: { nodes: source.nodes, gpus: 8, model: 'H100', seed: 1 } };
}

export function aggregatorConfig(settings: StackSettings, tokens: string): object {
  const { data, ports, victoriaMetrics, nats, logLevel } = settings;
  return {
    cluster: 'local',
    data_dir: join(data, 'aggregator'),
    ingest: { listen: `127.0.0.1:${ports.ingest}` },
    // On loopback: whoever can reach it may look; to resolve an alert needs the operator's token.
    api: { listen: `127.0.0.1:${ports.api}`, tokens, anonymous_read: true },
    ...(victoriaMetrics === undefined ? {} : { store: { url: victoriaMetrics } }),
    ...(nats === undefined ? {} : { nats: { servers: [new URL(nats).host] } }),
    log_level: logLevel,
  };
}

/** The aggregator's own metrics, for the dashboard. Samples of GPUs come by remote write and are not scraped. */
export function scrapeConfig(apiPort: number, token: string | undefined): object {
  return {
    scrape_configs: [
      {
        job_name: 'gpufleet-aggregator',
        scrape_interval: '10s',
        ...(token === undefined ? {} : { bearer_token: token }),
        static_configs: [{ targets: [`127.0.0.1:${apiPort}`] }],
      },
    ],
  };
}

/** The first token of a role. */
function readToken(file: string, role: string): string | undefined {
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.map((line) => line.trim().split(/\s+/)).find(([first]) => first === role)?.[1];
}

/** Flags of our own VictoriaMetrics. A year is kept; deduplication makes a sample that was sent twice count once. */
export function victoriaMetricsFlags(data: string, port: number, scrape: string): string[] {
  return [
    `-httpListenAddr=127.0.0.1:${port}`,
    `-storageDataPath=${join(data, 'victoria-metrics')}`,
    '-retentionPeriod=12',
    '-dedup.minScrapeInterval=1ms',
    // Queries hold back the newest 30 s by default, for sources that are late; a live sample here is not.
    '-search.latencyOffset=2s',
    '-http.maxGracefulShutdownDuration=1s',
    `-promscrape.config=${scrape}`,
  ];
}

/** Flags of our own nats-server, JetStream on. */
export function natsFlags(data: string, port: number): string[] {
  return ['-js', '-a', '127.0.0.1', '-p', String(port), '-sd', join(data, 'nats')];
}

function writeYaml(file: string, value: object): void {
  const text = `# Written by npm start at every start: changes here are lost.\n${stringify(value)}`;
  // One of them holds a token.
  writeFileSync(file, text, { mode: 0o600 });
}

/** Lines of `<role> <token> [name]`. */
function newTokens(): string {
  const token = (): string => randomBytes(24).toString('base64url');
  return `# role token name\nviewer ${token()} local-viewer\noperator ${token()} local-operator\nagent ${token()} local-agent\n`;
}
