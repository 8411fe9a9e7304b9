import { hostname } from 'node:os';
import * as v from 'valibot';
import { check, configError, readYaml } from '#shared/config/load-config.ts';
import { address, httpUrl, identityName } from '#shared/config/values.ts';
import { LOG_LEVELS } from '#shared/logging/logger.ts';
import { exposureFault } from '#shared/security/exposure.ts';

const path = v.pipe(v.string('must be a path'), v.minLength(1, 'must not be empty'));

/** TLS of a listener: with `ca`, clients must show a certificate of it. */
const listenerTls = v.strictObject({ cert: path, key: path, ca: v.optional(path) });

/** The aggregator's YAML file, documented setting by setting in README.md. */
export const aggregatorConfigSchema = v.strictObject({
  /** Label `cluster` of the series that the aggregator derives; agents bring their own. */
  cluster: v.optional(identityName, 'default'),
  /** Name of this process among the aggregators; the host name where not set. */
  shard: v.optional(identityName),
  /** Alert spool and state live here. */
  data_dir: v.optional(path, '/var/lib/gpufleet-aggregator'),
  /** Where agents stream to. */
  ingest: v.optional(
    v.strictObject({
      listen: v.optional(address, '127.0.0.1:7400'),
      tls: v.optional(listenerTls),
      /** Token file: agents need a token of role agent. */
      tokens: v.optional(path),
      /** Listen beyond loopback although neither tokens nor client certificates are asked for. */
      allow_unauthenticated: v.optional(v.boolean('must be true or false'), false),
    }),
    {},
  ),
  /** gRPC, gRPC-Web, Connect, REST, /metrics and the console. */
  api: v.optional(
    v.strictObject({
      listen: v.optional(address, '127.0.0.1:7480'),
      tls: v.optional(listenerTls),
      /** Token file: reads need viewer or operator, writes operator. */
      tokens: v.optional(path),
      /** Reads without a token although there is a token file; writes still need an operator's. */
      anonymous_read: v.optional(v.boolean('must be true or false'), false),
      allow_unauthenticated: v.optional(v.boolean('must be true or false'), false),
      /** Further names that the Host header may carry. */
      allowed_hosts: v.optional(v.pipe(v.array(v.string()), v.maxLength(100)), []),
      /** Pages of these origins may call. */
      allowed_origins: v.optional(v.pipe(v.array(v.string()), v.maxLength(100)), []),
    }),
    {},
  ),
  /** VictoriaMetrics; without it the aggregator runs embedded: live state and alerts, no history. */
  store: v.optional(v.strictObject({ url: httpUrl })),
  /** Without it alerts stay in this process: API and CLI, no subscribers. */
  nats: v.optional(
    v.strictObject({
      servers: v.pipe(
        v.array(v.string('must be host:port'), 'must be a list of host:port'),
        v.minLength(1, 'must name at least one'),
        v.maxLength(100),
      ),
      /** A file with NATS credentials (.creds). */
      credentials: v.optional(path),
      replicas: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(5)), 1),
    }),
  ),
  alerts: v.optional(
    v.strictObject({
      /** Rules file; the shipped one where not set. */
      rules: v.optional(path),
    }),
    {},
  ),
  log_level: v.optional(v.picklist(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`), 'info'),
});

export type AggregatorConfig = Omit<v.InferOutput<typeof aggregatorConfigSchema>, 'shard'> & {
  readonly shard: string;
};

/** Reads the file; `LOG_LEVEL` of the environment wins. Throws `invalid_config` with every fault at once. */
export async function loadAggregatorConfig(
  file: string | undefined,
  environment: { readonly LOG_LEVEL?: string | undefined },
): Promise<AggregatorConfig> {
  const raw = file === undefined ? {} : await readYaml(file);
  const level = environment.LOG_LEVEL?.toLowerCase();
  const value =
    level === undefined || typeof raw !== 'object' || raw === null ? raw : { ...raw, log_level: level };
  const result = check(aggregatorConfigSchema, value);
  if (!result.output) throw configError(file ?? 'the configuration', result.faults);
  const { ingest, api } = result.output;
  const faults = [
    exposureFault('ingest', ingest),
    exposureFault('api', api.anonymous_read ? { ...api, tokens: undefined } : api),
  ].filter((fault) => fault !== undefined);
  if (faults.length > 0) throw configError(file ?? 'the configuration', faults);
  return { ...result.output, shard: result.output.shard ?? hostname() };
}
