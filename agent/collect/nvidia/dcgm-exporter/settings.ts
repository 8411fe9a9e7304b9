import * as v from 'valibot';
import { bytes, duration, httpUrl } from '#shared/config/values.ts';

/** collectors.dcgm_exporter */
export const dcgmExporterSettings = v.strictObject({
  /** Where the exporter answers. */
  url: v.optional(httpUrl, 'http://127.0.0.1:9400/metrics'),
  /** Names and labels to write: ours, the exporter's own, or both. */
  naming: v.optional(
    v.picklist(['canonical', 'dcgm', 'both'], 'must be canonical, dcgm or both'),
    'canonical',
  ),
  /** Instead of collection_interval. */
  interval: v.optional(duration(100, 3_600_000)),
  /** The scrape is given up after this; the interval where that is shorter. */
  timeout: v.optional(duration(50, 60_000), '10s'),
  /** A larger answer is refused. */
  max_body_bytes: v.optional(bytes(1024, 2 ** 30), '16MiB'),
});

export type DcgmExporterSettings = v.InferOutput<typeof dcgmExporterSettings>;
