import { hostname } from 'node:os';
import * as v from 'valibot';
import { check, configError, type Fault, readYaml } from '#shared/config/load-config.ts';
import { address, httpUrl, identityName } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { LOG_LEVELS } from '#shared/logging/logger.ts';
import { exposureFault } from '#shared/security/exposure.ts';
import { heartbeatSettings } from './alerts/watchdog/heartbeat-settings.ts';
import { detectionSettings } from './health/detect/detection-settings.ts';
import { publishSettings } from './publish/settings.ts';
import { StoreAccess, type StoreAccessSettings } from './store/store-access.ts';
import { validationSettings } from './validate/settings.ts';

const path = v.pipe(v.string('must be a path'), v.minLength(1, 'must not be empty'));

/** TLS of a listener: with `ca`, clients must show a certificate of it. */
const listenerTls = v.strictObject({ cert: path, key: path, ca: v.optional(path) });

/** A secret in a URL ends up in logs. */
const storeUrl = v.pipe(
  httpUrl,
  v.check((text) => {
    const url = URL.parse(text);
    return !url || (url.username === '' && url.password === '');
  }, 'must not hold a user or password: use basic_auth'),
);

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
  store: v.optional(
    v.strictObject({
      /** Where samples are written; of a cluster `http://vminsert:8480/insert/0/prometheus`. */
      url: storeUrl,
      /** Where they can be read; of a cluster `http://vmselect:8481/select/0/prometheus`. */
      read_url: v.optional(storeUrl),
      /** Every process that holds samples in memory (vminsert, vmstorage): `/metrics` is added. */
      processes: v.optional(v.pipe(v.array(storeUrl), v.maxLength(100))),
      basic_auth: v.optional(
        v.strictObject({
          username: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
          password_file: path,
        }),
      ),
      bearer_token_file: v.optional(path),
      /** `ca` instead of the system's; `cert` and `key` where the store asks for a certificate. */
      tls: v.optional(
        v.strictObject({
          ca: v.optional(path),
          cert: v.optional(path),
          key: v.optional(path),
          server_name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(253))),
        }),
      ),
    }),
  ),
  /** Without it alerts stay in this process: API and CLI, no subscribers. */
  nats: v.optional(
    v.strictObject({
      servers: v.pipe(
        v.array(v.string('must be host:port'), 'must be a list of host:port'),
        v.minLength(1, 'must name at least one'),
        v.maxLength(100),
      ),
      /** One of these at most: a .creds file, the seed of an nkey, user and password, a token. */
      credentials: v.optional(path),
      nkey_file: v.optional(path),
      user: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(256))),
      password_file: v.optional(path),
      token_file: v.optional(path),
      /** When given, even empty, nothing is said to a server without TLS. */
      tls: v.optional(
        v.strictObject({ ca: v.optional(path), cert: v.optional(path), key: v.optional(path) }),
      ),
      replicas: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(5)), 1),
    }),
  ),
  alerts: v.optional(
    v.strictObject({
      /** Rules file, or a folder of them; the shipped one where not set. Read again when it changes. */
      rules: v.optional(path),
      /** Whom to tell: routes, receivers, inhibitions. Nobody where not set. */
      notify: v.optional(path),
      /** What to do about critical alerts. Nothing where not set. */
      actions: v.optional(path),
      /** The dead man's switch; the beat on NATS is always there. */
      heartbeat: v.optional(heartbeatSettings, {}),
    }),
    {},
  ),
  /** Which samples cannot be true. */
  validation: v.optional(validationSettings, {}),
  health: v.optional(
    v.strictObject({
      /** A folder with profiles of the user's own, beside the shipped ones and in place of those of the same name. */
      profiles: v.optional(path),
      detection: v.optional(detectionSettings, {}),
    }),
    {},
  ),
  assets: v.optional(
    v.strictObject({
      /** Inventory, YAML or CSV: pools, racks, PDUs, switches, serials, repairs. Read again when it changes. */
      file: v.optional(path),
    }),
    {},
  ),
  /** What goes to JetStream beside alerts and events. */
  publish: v.optional(publishSettings, {}),
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
  const { ingest, api, store } = result.output;
  const faults = [
    exposureFault('ingest', ingest),
    exposureFault('api', api.anonymous_read ? { ...api, tokens: undefined } : api),
    storeFault(store),
  ].filter((fault) => fault !== undefined);
  if (faults.length > 0) throw configError(file ?? 'the configuration', faults);
  return { ...result.output, shard: result.output.shard ?? hostname() };
}

/** Its files are read where a person looks: at the start, and with --check-config. */
function storeFault(store: StoreAccessSettings | undefined): Fault | undefined {
  try {
    if (store) new StoreAccess(store, () => 0);
    return undefined;
  } catch (error) {
    return { path: 'store', message: describeError(error) };
  }
}
