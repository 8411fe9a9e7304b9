import * as v from 'valibot';
import { bytes, duration, httpUrl } from '#shared/config/values.ts';

/** One rule, in the spelling and with the defaults of Prometheus' metric_relabel_configs. */
const relabelSettings = v.pipe(
  v.strictObject({
    source_labels: v.optional(v.pipe(v.array(v.string()), v.maxLength(24)), []),
    separator: v.optional(v.string(), ';'),
    target_label: v.optional(v.string(), ''),
    regex: v.optional(v.string(), '(.*)'),
    modulus: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
    replacement: v.optional(v.string(), '$1'),
    action: v.optional(
      v.picklist(
        [
          ...(['replace', 'keep', 'drop', 'labelmap', 'labeldrop', 'labelkeep'] as const),
          ...(['lowercase', 'uppercase', 'keepequal', 'dropequal', 'hashmod'] as const),
        ],
        'must be an action of metric_relabel_configs, such as keep, drop or replace',
      ),
      'replace',
    ),
  }),
  v.check(
    ({ action, target_label }) => target_label !== '' || !NEEDS_TARGET.has(action),
    'needs a target_label with this action',
  ),
  v.check(({ action, modulus }) => action !== 'hashmod' || modulus > 0, 'needs a modulus with hashmod'),
);

const NEEDS_TARGET: ReadonlySet<string> = new Set([
  ...['replace', 'lowercase', 'uppercase', 'keepequal', 'dropequal', 'hashmod'],
]);

const file = v.pipe(v.string('must be the path of a file'), v.startsWith('/', 'must be an absolute path'));
const most = (limit: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limit, `must be at most ${limit}`));

const targetSettings = v.pipe(
  v.strictObject({
    /** The label `job`, and part of the source's name. */
    name: v.pipe(
      v.string(),
      v.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'must be 1 to 63 letters, digits, _, . and -'),
    ),
    url: httpUrl,
    /** The label `instance`, instead of host and port of the URL. */
    instance: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(1024))),
    /** Instead of collection_interval. */
    interval: v.optional(duration(100, 3_600_000)),
    /** The scrape is given up after this, and at 90 % of the interval if that is sooner. */
    timeout: v.optional(duration(50, 60_000), '10s'),
    /** A larger answer is refused. */
    max_body_bytes: v.optional(bytes(1024, 2 ** 30), '16MiB'),
    /** Series over it are refused, counted and named. */
    series_limit: v.optional(most(100_000), 10_000),
    /** A page with more samples, after relabelling, is refused as a whole. */
    sample_limit: v.optional(most(1_000_000)),
    /** Series with more labels are refused. 24 is what the store takes. */
    label_limit: v.optional(most(24), 24),
    /** Bytes; series with a longer one are refused. */
    label_value_length_limit: v.optional(most(1024), 1024),
    /** The page's own `job` and `instance` win over ours; else they are renamed to exported_job and exported_instance. */
    honor_labels: v.optional(v.boolean(), false),
    /** There is no `true`: all samples of a tick have one time, that of the scrape. */
    honor_timestamps: v.optional(
      v.literal(false, 'must be false: all samples of a scrape are given its time'),
      false,
    ),
    basic_auth: v.optional(
      v.strictObject({ username: v.pipe(v.string(), v.minLength(1)), password_file: file }),
    ),
    /** Sent as `Authorization: Bearer`; read at each scrape, so that it may be renewed. */
    bearer_token_file: v.optional(file),
    /** Files, read at the first scrape and after each one that failed. */
    tls: v.optional(
      v.pipe(
        v.strictObject({
          ca: v.optional(file),
          cert: v.optional(file),
          key: v.optional(file),
          server_name: v.optional(v.string()),
        }),
        v.check(
          ({ cert, key }) => (cert === undefined) === (key === undefined),
          'needs both cert and key, or neither',
        ),
      ),
    ),
    metric_relabel_configs: v.optional(
      v.pipe(v.array(relabelSettings), v.maxLength(100, 'must be at most 100 rules')),
      [],
    ),
  }),
  v.check(
    ({ basic_auth, bearer_token_file }) => basic_auth === undefined || bearer_token_file === undefined,
    'must not have both basic_auth and bearer_token_file',
  ),
);

/** collectors.prometheus */
export const prometheusSettings = v.strictObject({
  targets: v.optional(
    v.pipe(
      v.array(targetSettings),
      v.maxLength(100, 'must be at most 100 targets'),
      v.check(
        (targets) => new Set(targets.map(({ name }) => name)).size === targets.length,
        'must not have two targets of one name',
      ),
    ),
    [],
  ),
});

export type PrometheusSettings = v.InferOutput<typeof prometheusSettings>;
export type TargetSettings = v.InferOutput<typeof targetSettings>;
export type RelabelSettings = v.InferOutput<typeof relabelSettings>;
