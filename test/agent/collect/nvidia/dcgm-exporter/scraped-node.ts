import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '#shared/logging/logger.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Collector, Reading } from '../../../../../agent/collect/collector.ts';
import {
  createDcgmExporterCollector,
  type DcgmExporterOptions,
} from '../../../../../agent/collect/nvidia/dcgm-exporter/collector.ts';
import type { LastXids } from '../../../../../agent/collect/nvidia/dcgm-exporter/xid-watch.ts';
import { ROOT } from '../../../../support/data.ts';
import { PageServer } from '../../prometheus/page-server.ts';

export function fixture(name: string): string {
  return readFileSync(join(ROOT, 'test', 'fixtures', 'dcgm-exporter', name), 'utf8');
}

/** A collector and the page that it scrapes. */
export class ScrapedNode implements AsyncDisposable {
  readonly server: PageServer;
  readonly collector: Collector;
  /** Steps by a second at each look. */
  #now = 1_700_000_000_000;

  private constructor(server: PageServer, options: Partial<DcgmExporterOptions>) {
    this.server = server;
    this.collector = createDcgmExporterCollector({
      url: server.url,
      intervalMs: 1000,
      naming: 'canonical',
      clock: { now: () => (this.#now += 1000), monotonic: () => (this.#now += 4) },
      lastXids: rememberedXids(),
      logger: silentLogger,
      ...options,
    });
  }

  static async start(options: Partial<DcgmExporterOptions> = {}): Promise<ScrapedNode> {
    return new ScrapedNode(await PageServer.listen(), options);
  }

  async scrape(page?: PageServer['page'], signal = new AbortController().signal): Promise<Reading> {
    if (page !== undefined) this.server.page = page;
    return this.collector.collect(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.collector[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

export function rememberedXids(): LastXids {
  const codes = new Map<string, number>();
  return {
    get: (key) => codes.get(key),
    set: (key, code) => {
      codes.set(key, code);
    },
  };
}

const STATES = new Map<number, string>(Object.entries(SlotState).map(([name, state]) => [state, name]));

/** `name{label="value"}` to its value, or to its state's name where it is not present. Not the scrape's own. */
export function shown(reading: Reading, { own = false } = {}): Record<string, number | string> {
  const entries = reading.dictionary.series.flatMap(({ name, labels }, slot) => {
    if (!own && labels.some(([label]) => label === 'source')) return [];
    const state = reading.states[slot]!;
    const value = state === SlotState.Present ? reading.values[slot]! : STATES.get(state)!;
    const braces = labels.length === 0 ? '' : `{${labels.map(([l, v]) => `${l}="${v}"`).join(',')}}`;
    return [[`${name}${braces}`, value] as const];
  });
  return Object.fromEntries(entries);
}
