import { AMD_CYCLES } from '#shared/catalogue/amd.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../../collector.ts';
import { Deadline } from '../../deadline.ts';
import { type Exposition, ExpositionParser } from '../../prometheus/exposition.ts';
import { Scraper } from '../../prometheus/scrape.ts';
import { GpuTable } from '../gpu-table.ts';
import { ListedGpus } from '../listed-gpus.ts';
import { cardNames, findCard } from '../sysfs/find-cards.ts';
import { type Boards, type PagePlan, planPage } from './page-plan.ts';

export interface DeviceMetricsExporterOptions {
  /** http or https, such as http://127.0.0.1:5000/metrics. */
  readonly url: string;
  /** /sys, for the driver's names of the GPUs. */
  readonly sys: string;
  readonly intervalMs: number;
  /** A scrape is given up after this, and at the collect's own deadline if that is sooner. */
  readonly timeoutMs: number;
  /** A larger body is refused. */
  readonly maxBodyBytes: number;
  /** Most series of this source; those over it are refused and counted. Default 10,000. */
  readonly seriesLimit?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const NAME = 'device-metrics-exporter';
const DEFAULT_SERIES_LIMIT = 10_000;
/** HELP, TYPE and one sample. */
const LINES_PER_SERIES = 3;

/**
 * Scrapes AMD's device-metrics-exporter: canonical series for what the catalogue knows, everything else passed
 * through. A scrape that fails gives `up` 0 and everything in state Timeout (no answer in time) or Absent; the cause
 * is logged once. Throws `invalid_config` for a bad URL.
 */
export function createDeviceMetricsExporterCollector(options: DeviceMetricsExporterOptions): Collector {
  return new DeviceMetricsExporterCollector(options);
}

class DeviceMetricsExporterCollector implements Collector {
  readonly name = NAME;
  readonly rank = SOURCE_RANK.device_metrics_exporter;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: DeviceMetricsExporterOptions;
  readonly #scraper: Scraper;
  readonly #parser: ExpositionParser;
  readonly #table: GpuTable;
  readonly #gpus = new ListedGpus('exporter', NAME, AMD_CYCLES.exporter);
  #heads: Exposition['heads'] | undefined;
  #values: Float64Array = new Float64Array(0);
  #plan: PagePlan = { listed: [], others: [], otherLines: new Int32Array(0), refused: 0 };
  #refused = 0;
  #lastProblem = '';

  constructor(options: DeviceMetricsExporterOptions) {
    const { intervalMs, clock, seriesLimit = DEFAULT_SERIES_LIMIT } = options;
    this.#options = options;
    this.intervalMs = intervalMs;
    this.#scraper = new Scraper(options);
    this.#parser = new ExpositionParser(seriesLimit * LINES_PER_SERIES);
    this.#table = new GpuTable({ source: NAME, intervalMs, clock, seriesLimit });
  }

  describe(): string {
    return `${NAME} at ${this.#options.url}, ${this.#gpus.present} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { timeoutMs, logger } = this.#options;
    this.#table.begin();
    using limit = new Deadline(timeoutMs, signal);
    const deadline = limit.signal;
    try {
      const exposition = await this.#scrape(deadline);
      this.#lastProblem = '';
      return await this.#read(exposition);
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastProblem) logger.warn({ source: NAME }, problem);
      this.#lastProblem = problem;
      return this.#table.failed(deadline.aborted ? SlotState.Timeout : SlotState.Absent, [], problem);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scraper[Symbol.asyncDispose]();
  }

  /** A page with lines of which none is a sample, such as a login form, is a failure and not a node without GPUs. */
  async #scrape(signal: AbortSignal): Promise<Exposition> {
    const exposition = this.#parser.parse(await this.#scraper.fetch(signal));
    if (exposition.heads.length > 0 || exposition.malformed === 0) return exposition;
    this.#table.reject('malformed', exposition.malformed);
    const { origin, pathname } = new URL(this.#options.url);
    const cause = `none of its ${exposition.malformed} lines is Prometheus text`;
    throw new FleetError('unavailable', `Cannot scrape ${origin}${pathname}: ${cause}`);
  }

  async #read(exposition: Exposition): Promise<Reading> {
    const { heads, values, malformed, unread } = exposition;
    const { clock } = this.#options;
    this.#values = values;
    let events: readonly FleetEvent[] = [];
    if (heads !== this.#heads) {
      this.#heads = heads;
      this.#plan = planPage(exposition, () => this.#values, await this.#boards());
      const observed = this.#gpus.observe(this.#plan.listed, clock.now());
      events = observed.events;
      this.#refused = observed.refused;
      this.#table.plan(observed.gpus, this.#plan.others);
    }
    this.#table.reject('malformed', malformed);
    this.#table.reject('series_limit', unread + this.#refused);
    this.#table.reject('label_limit', this.#plan.refused);
    this.#gpus.fill(this.#table, this.#plan.listed, clock.monotonic());
    for (const [o, line] of this.#plan.otherLines.entries())
      this.#table.offerOther(o, line < 0 ? 1 : values[line]!);
    return this.#table.finish(events);
  }

  /** Looked up when the page's lines change. Empty where the exporter is another host's. */
  async #boards(): Promise<Boards> {
    const { sys } = this.#options;
    const cards = await Promise.all((await cardNames(sys)).map((name) => findCard(sys, name)));
    const boards = new Map<string, string[]>();
    for (const card of cards.filter((one) => one !== undefined).sort((a, b) => (a.pci < b.pci ? -1 : 1))) {
      const { serial } = card.facts;
      if (serial && card.uuid) boards.set(serial, [...(boards.get(serial) ?? []), card.uuid]);
    }
    return boards;
  }
}
