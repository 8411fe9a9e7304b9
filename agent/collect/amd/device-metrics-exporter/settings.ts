import * as v from 'valibot';
import { bytes, duration, httpUrl } from '#shared/config/values.ts';

/** collectors.device_metrics_exporter */
export const deviceMetricsExporterSettings = v.strictObject({
  /** Where AMD's exporter answers. */
  url: v.optional(httpUrl, 'http://127.0.0.1:5000/metrics'),
  /** Instead of collection_interval. */
  interval: v.optional(duration(100, 3_600_000)),
  /** The scrape is given up after this; the interval where that is shorter. */
  timeout: v.optional(duration(50, 60_000), '10s'),
  /** A larger answer is refused. */
  max_body_bytes: v.optional(bytes(1024, 2 ** 30), '16MiB'),
});

export type DeviceMetricsExporterSettings = v.InferOutput<typeof deviceMetricsExporterSettings>;
