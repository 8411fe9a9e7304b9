import { describeError } from '#shared/errors/fleet-error.ts';
import { Scraper } from '../../prometheus/scrape.ts';
import type { Detection, SourceKind, Surroundings } from '../../source-kind.ts';
import { createDcgmExporterCollector } from './collector.ts';
import type { DcgmExporterSettings } from './settings.ts';

const DETECT_TIMEOUT_MS = 1000;

export const kind: SourceKind<DcgmExporterSettings> = {
  detect,
  create(settings, { intervalMs, facts, clock, logger }) {
    const { url, naming, interval, timeout, max_body_bytes } = settings;
    return [
      createDcgmExporterCollector({
        url,
        naming,
        intervalMs: interval ?? intervalMs,
        timeoutMs: timeout,
        maxBodyBytes: max_body_bytes,
        clock,
        logger,
        lastXids: {
          get: (uuid) => numberOf(facts.get(`xid/${uuid}`)),
          set: (uuid, code) => facts.set(`xid/${uuid}`, String(code)),
        },
      }),
    ];
  },
};

/** Another exporter, this agent's own among them, may listen there: only DCGM's fields make it one. */
async function detect({ url }: DcgmExporterSettings, _: Surroundings): Promise<Detection> {
  await using scraper = new Scraper({ url });
  try {
    const page = await scraper.fetch(AbortSignal.timeout(DETECT_TIMEOUT_MS));
    if (page.includes('DCGM_FI_')) return { found: true, what: `dcgm-exporter at ${url}` };
    return { found: false, why: `what answers at ${url} shows no DCGM fields` };
  } catch (error) {
    return { found: false, why: describeError(error) };
  }
}

function numberOf(text: string | undefined): number | undefined {
  const number = Number(text);
  return text === undefined || !Number.isFinite(number) ? undefined : number;
}
