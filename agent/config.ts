import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import * as v from 'valibot';
import { check, configError, type Fault, readYaml } from '#shared/config/load-config.ts';
import { address, bytes, duration, externalLabels, identityName } from '#shared/config/values.ts';
import { LOG_LEVELS } from '#shared/logging/logger.ts';
import { collectorsSchema } from './collect/collector-settings.ts';
import { DEFAULT_DATA_DIR } from './control-socket.ts';
import { isPasswordHash } from './expose/password.ts';
import { commandsSchema } from './orders/settings.ts';

const path = v.pipe(v.string('must be a path'), v.minLength(1, 'must not be empty'));

/** The agent's YAML file, documented setting by setting in README.md. */
export const agentConfigSchema = v.strictObject({
  /** Label `cluster` of everything that this node sends. */
  cluster: v.optional(identityName, 'default'),
  /** Label `node`; the host name where not set. */
  node: v.optional(identityName),
  /** Told apart from other machines by this; /etc/machine-id where not set. */
  machine_id: v.optional(identityName),
  /** Labels that every series of this node carries. */
  external_labels: v.optional(externalLabels, {}),
  /** The buffer lives here. */
  data_dir: v.optional(path, DEFAULT_DATA_DIR),
  /** host:port of each aggregator, tried in turn. */
  aggregators: v.optional(
    v.pipe(
      v.array(address, 'must be a list of host:port'),
      v.minLength(1, 'must name at least one'),
      v.maxLength(100),
    ),
    ['127.0.0.1:7400'],
  ),
  /** TLS to the aggregators; cert and key make it mutual. */
  tls: v.optional(
    v.strictObject({
      ca: v.optional(path),
      cert: v.optional(path),
      key: v.optional(path),
      /** The name in the aggregator's certificate, where it is not the one in its address. */
      server_name: v.optional(v.string()),
    }),
  ),
  /** A file with the token for the aggregators. */
  token_file: v.optional(path),
  /** How often sources are read, where they do not say otherwise. */
  collection_interval: v.optional(duration(100, 3_600_000), '10s'),
  /** What is collected, by source; where none is named, what the node has. */
  collectors: v.optional(collectorsSchema, {}),
  /** GPUs that this node should have: what `check --gpus all` asks for. The most it ever had, where not set. */
  expected_gpus: v.optional(
    v.pipe(v.number('must be a number of GPUs'), v.integer(), v.minValue(0), v.maxValue(256)),
  ),
  /** The agent's own exporter: /metrics, /healthz, /readyz. */
  exporter: v.optional(
    v.strictObject({
      /** HTTPS. With `ca`, scrapers must show a certificate of it. */
      tls: v.optional(v.strictObject({ cert: path, key: path, ca: v.optional(path) })),
      /** Basic authentication: a hash of `gpufleet-agent hash-password` by user name. */
      users: v.optional(
        v.pipe(
          v.record(
            v.pipe(v.string(), v.regex(/^[\x21-\x39\x3b-\x7e]{1,64}$/, 'is not a user name')),
            v.pipe(
              v.string('must be text'),
              v.check(isPasswordHash, 'must be what `gpufleet-agent hash-password` prints'),
            ),
          ),
          v.check((users) => Object.keys(users).length <= 16, 'must be at most 16 users'),
        ),
        {},
      ),
      /** 9400 is dcgm-exporter's port: where it is taken, 9401 is used. */
      listen: v.optional(address, '127.0.0.1:9400'),
      metrics_path: v.optional(
        v.pipe(v.string(), v.regex(/^\/[\x21-\x7e]{0,200}$/, 'must begin with /')),
        '/metrics',
      ),
    }),
    {},
  ),
  buffer: v.optional(
    v.strictObject({
      /** Older records leave the ring. */
      max_age: v.optional(duration(60_000, 86_400_000 * 30), '24h'),
      /** The ring's size; at most 5 % of the disk where not set. */
      max_bytes: v.optional(bytes(2 ** 20, 2 ** 40)),
      /** tick, where not set: every record is fsynced. interval: at most one fsync a second, which a power cut may cost. */
      fsync: v.optional(v.picklist(['tick', 'interval'], 'must be tick or interval')),
    }),
    {},
  ),
  /** What an aggregator may have this agent run, by name; only over mutual TLS. */
  commands: v.optional(commandsSchema, {}),
  log_level: v.optional(v.picklist(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`), 'info'),
});

export type AgentConfig = Omit<v.InferOutput<typeof agentConfigSchema>, 'node' | 'machine_id'> & {
  readonly node: string;
  readonly machine_id: string;
};

/** What the environment may set, for those who come from other exporters. */
export interface AgentEnvironment {
  readonly EXPORTER_PORT?: string | undefined;
  readonly METRICS_PATH?: string | undefined;
  readonly COLLECTION_INTERVAL?: string | undefined;
  readonly LOG_LEVEL?: string | undefined;
}

/** Reads the file, lays the environment over it, and reports every fault of both at once (`invalid_config`). */
export async function loadAgentConfig(
  file: string | undefined,
  environment: AgentEnvironment,
): Promise<AgentConfig> {
  const raw = file === undefined ? {} : await readYaml(file);
  const source = file ?? 'the configuration';
  const { value, faults } = withEnvironment(raw, environment);
  const result = check(agentConfigSchema, value);
  const all = [...faults, ...(result.faults ?? [])];
  if (!result.output || all.length > 0) throw configError(source, all);
  return {
    ...result.output,
    node: result.output.node ?? hostname(),
    machine_id: result.output.machine_id ?? (await machineId()),
  };
}

function withEnvironment(raw: unknown, environment: AgentEnvironment): { value: unknown; faults: Fault[] } {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return { value: raw, faults: [] };
  const value = { ...raw } as Record<string, unknown>;
  const faults: Fault[] = [];
  const exporter = { ...(value.exporter as Record<string, unknown> | undefined) };
  const { EXPORTER_PORT, METRICS_PATH, COLLECTION_INTERVAL, LOG_LEVEL } = environment;
  if (EXPORTER_PORT !== undefined) {
    const port = Number(EXPORTER_PORT);
    if (!/^\d+$/.test(EXPORTER_PORT) || port > 65_535) {
      faults.push({
        path: 'environment EXPORTER_PORT',
        message: `must be a port, and is ${JSON.stringify(EXPORTER_PORT)}`,
      });
    } else {
      const listen = typeof exporter.listen === 'string' ? exporter.listen : '127.0.0.1:9400';
      exporter.listen = `${listen.slice(0, listen.lastIndexOf(':'))}:${port}`;
    }
  }
  if (METRICS_PATH !== undefined) exporter.metrics_path = METRICS_PATH;
  if (Object.keys(exporter).length > 0) value.exporter = exporter;
  // dcgm-exporter takes milliseconds here: a bare number means the same.
  if (COLLECTION_INTERVAL !== undefined) {
    value.collection_interval = /^\d+$/.test(COLLECTION_INTERVAL)
      ? `${COLLECTION_INTERVAL}ms`
      : COLLECTION_INTERVAL;
  }
  if (LOG_LEVEL !== undefined) value.log_level = LOG_LEVEL.toLowerCase();
  return { value, faults };
}

async function machineId(): Promise<string> {
  for (const file of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    const id = await readFile(file, 'utf8').then(
      (text) => text.trim(),
      () => '',
    );
    if (id) return id;
  }
  return hostname();
}
