import { describeError } from '#shared/errors/fleet-error.ts';
import { Scraper } from '../../prometheus/scrape.ts';
import type { Detection, SourceKind, Surroundings } from '../../source-kind.ts';
import { createDeviceMetricsExporterCollector } from './collector.ts';
import type { DeviceMetricsExporterSettings } from './settings.ts';

const DETECT_TIMEOUT_MS = 1000;
/** Names that only this exporter has; each can be switched off. */
const SIGNS = ['gpu_nodes_total', 'gpu_gfx_activity', 'gpu_package_power', 'gpu_junction_temperature'];

export const kind: SourceKind<DeviceMetricsExporterSettings> = {
  detect,
  create({ url, interval, timeout, max_body_bytes }, { intervalMs, host, clock, logger }) {
    return [
      createDeviceMetricsExporterCollector({
        url,
        sys: host.sys,
        intervalMs: interval ?? intervalMs,
        timeoutMs: timeout,
        maxBodyBytes: max_body_bytes,
        clock,
        logger,
      }),
    ];
  },
};

async function detect({ url }: DeviceMetricsExporterSettings, _: Surroundings): Promise<Detection> {
  await using scraper = new Scraper({ url });
  try {
    const page = await scraper.fetch(AbortSignal.timeout(DETECT_TIMEOUT_MS));
    if (SIGNS.some((sign) => page.includes(sign)))
      return { found: true, what: `device-metrics-exporter at ${url}` };
    return { found: false, why: `what answers at ${url} shows none of AMD's metrics` };
  } catch (error) {
    return { found: false, why: describeError(error) };
  }
}
