import { isDcgmBlank, toCanonical } from '#shared/catalogue/dcgm.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, type RejectReason, SOURCE_RANK } from '../../collector.ts';
import { Deadline } from '../../deadline.ts';
import { type Exposition, ExpositionParser } from '../../prometheus/exposition.ts';
import { Scraper } from '../../prometheus/scrape.ts';
import { KEPT_SCRAPES, SeriesTable } from '../../series-table.ts';
import { TextBudget } from '../../text-budget.ts';
import { GpuPresence } from '../gpu-presence.ts';
import { OffBus } from './off-bus.ts';
import { type Naming, planScrape, type Route, type ScrapePlan } from './scrape-plan.ts';
import { type LastXids, type XidSighting, XidWatch } from './xid-watch.ts';

export interface DcgmExporterOptions {
  /** http or https, such as http://127.0.0.1:9400/metrics. */
  readonly url: string;
  readonly intervalMs: number;
  /**
   * A scrape is given up after this, and at the collect's own deadline if that is sooner, as it is where this is not
   * shorter than the interval. Default 10 s.
   */
  readonly timeoutMs?: number;
  /** A larger body is refused. Default: see ScraperOptions. */
  readonly maxBodyBytes?: number;
  /** `dcgm` writes the exporter's names, labels and values; blanks are absent all the same. */
  readonly naming: Naming;
  /** Most series of this source; those over it are refused, counted and named. Default 10,000. */
  readonly seriesLimit?: number;
  readonly clock: Clock;
  readonly lastXids: LastXids;
  readonly logger: Logger;
}

const NAME = 'dcgm-exporter';
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_SERIES_LIMIT = 10_000;
/** HELP, TYPE and one sample: a page with more lines than that has more series than the limit, or is no page. */
const LINES_PER_SERIES = 3;
/** Enough to recognise who is too many. */
const NAMED_REFUSED = 5;
/** The catalogue's highest code is 173: this leaves room, and refuses what is no code. */
const MAX_XID = metricNamed('gpu_xid_last')!.max;

const NOBODY = new Int32Array(0);
const NO_PLAN: ScrapePlan = { series: [], routes: [], infos: [], gpus: [], refusedLabels: 0 };
const UP = 0;
const DURATION = 1;
const SAMPLES = 2;
const OWN_SERIES: readonly Series[] = ['up', 'scrape_duration_seconds', 'scrape_samples_scraped'].map(
  (name) => {
    const { kind, decimals, help, unit } = metricNamed(name)!;
    return { name, labels: [['source', NAME]], kind, decimals, help, unit };
  },
);

/**
 * Scrapes a dcgm-exporter: canonical series for the fields of the catalogue, everything else passed through, and
 * events for Xids and for GPUs that vanish. Names, labels and units: see planScrape and shared/catalogue/dcgm.ts.
 *
 * A scrape that fails gives a reading of the same dictionary with `up` 0 and everything scraped in state Timeout (no
 * answer in time) or Absent (any other failure), so that the failure is on record and no series ends; the cause is
 * logged once. Before the first success there is only the source's own `up` to say it with.
 *
 * A GPU is lost when KEPT_SCRAPES pages do not list it (an exporter that restarts shows an empty one), and at once
 * when the exporter reports that it has fallen off the bus.
 *
 * Throws `invalid_config` for a bad URL.
 */
export function createDcgmExporterCollector(options: DcgmExporterOptions): Collector {
  return new DcgmExporterCollector(options);
}

class DcgmExporterCollector implements Collector {
  readonly name = NAME;
  readonly rank = SOURCE_RANK.dcgm_exporter;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: DcgmExporterOptions;
  readonly #scraper: Scraper;
  readonly #parser: ExpositionParser;
  readonly #table: SeriesTable;
  readonly #presence = new GpuPresence({ source: NAME, patience: KEPT_SCRAPES });
  readonly #offBus = new OffBus();
  readonly #xids: XidWatch;
  #heads: Exposition['heads'] = [];
  #plan: ScrapePlan = NO_PLAN;
  /** Of the plan's series. */
  #slots: Int32Array = new Int32Array(0);
  /** The line whose field fills a slot: where two fields mean the same, the first that had a value. */
  #owner: Int32Array = NOBODY;
  #rejected = new Map<RejectReason, number>();
  #lastProblem = '';
  #lastRefused = '';

  constructor(options: DcgmExporterOptions) {
    this.#options = options;
    this.intervalMs = options.intervalMs;
    this.#scraper = new Scraper(options);
    const limit = options.seriesLimit ?? DEFAULT_SERIES_LIMIT;
    this.#table = new SeriesTable(NAME, options.intervalMs, limit);
    this.#parser = new ExpositionParser(limit * LINES_PER_SERIES);
    this.#xids = new XidWatch(NAME, options.lastXids);
  }

  describe(): string {
    return `dcgm-exporter at ${this.#options.url}, ${this.#plan.gpus.length} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { clock, timeoutMs = DEFAULT_TIMEOUT_MS } = this.#options;
    const timestampMs = clock.now();
    const began = clock.monotonic();
    // The signal's own deadline lies within the interval: a second one is set only where it may be the first to pass.
    using limit = timeoutMs < this.intervalMs ? new Deadline(timeoutMs, signal) : undefined;
    const deadline = limit?.signal ?? signal;
    let exposition: Exposition;
    try {
      exposition = await this.#scrape(deadline);
    } catch (error) {
      const problem = this.#note(error);
      const state = deadline.aborted ? SlotState.Timeout : SlotState.Absent;
      return { ...this.#failed(timestampMs, clock.monotonic() - began, state), problem };
    }
    this.#lastProblem = '';
    return this.#read(exposition, timestampMs, clock.monotonic() - began);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scraper[Symbol.asyncDispose]();
  }

  /** A page with lines of which none is a sample, such as a login form, is a failure and not a node without GPUs. */
  async #scrape(signal: AbortSignal): Promise<Exposition> {
    const exposition = this.#parser.parse(await this.#scraper.fetch(signal));
    if (exposition.heads.length > 0 || exposition.malformed === 0) return exposition;
    const { origin, pathname } = new URL(this.#options.url);
    throw new FleetError(
      'unavailable',
      `Cannot scrape ${origin}${pathname}: none of its ${exposition.malformed} lines is Prometheus text`,
    );
  }

  #read(exposition: Exposition, timestampMs: number, tookMs: number): Reading {
    const { heads, values, malformed, unread } = exposition;
    this.#rejected = new Map();
    this.#reject('malformed', malformed);
    this.#reject('series_limit', unread);
    if (heads !== this.#heads) {
      this.#heads = heads;
      this.#plan = planScrape(exposition, this.#options.naming, OWN_SERIES);
      this.#owner = NOBODY;
      this.#assign();
    } else if (this.#table.waiting) {
      this.#assign();
    }
    const { routes, infos, gpus, refusedLabels } = this.#plan;
    this.#reject('label_limit', refusedLabels);
    this.#table.states.fill(SlotState.Absent);
    const sightings: XidSighting[] = [];
    for (let i = 0; i < routes.length; i++) this.#take(routes[i]!, i, values[i]!, sightings);
    for (const info of infos) this.#put(this.#slots[info]!, 1, SlotState.Present);
    this.#putOwn(1, tookMs, routes.length + unread);
    const xids = this.#xids.observe(sightings, timestampMs);
    const lost = this.#presence.observe(gpus, timestampMs, this.#offBus.observe(gpus, sightings, xids));
    this.#markLost();
    return this.#reading(timestampMs, [...xids, ...lost]);
  }

  /** What a lost GPU does not give any more: for as long as its series are in the dictionary. */
  #markLost(): void {
    if (!this.#presence.anyLost) return;
    const { dictionary, states } = this.#table;
    dictionary.series.forEach(({ labels }, slot) => {
      if (states[slot] !== SlotState.Absent) return;
      const uuid = labels.find(([name]) => name === 'uuid' || name === 'UUID')?.[1];
      if (uuid !== undefined && this.#presence.isLost(uuid)) states[slot] = SlotState.GpuLost;
    });
  }

  #failed(timestampMs: number, tookMs: number, state: SlotState): Reading {
    this.#rejected = new Map();
    if (this.#plan === NO_PLAN) this.#slots = this.#table.assign(OWN_SERIES);
    this.#table.states.fill(state);
    this.#putOwn(0, tookMs, 0);
    return this.#reading(timestampMs, []);
  }

  #reading(timestampMs: number, events: Reading['events']): Reading {
    const { dictionary, values, states } = this.#table;
    return { dictionary, timestampMs, values, states, events, rejected: this.#rejected };
  }

  #assign(): void {
    const before = this.#table.dictionary;
    const budget = new TextBudget();
    const fitting = this.#plan.series.filter((one) => budget.takes(one));
    const slots = this.#table.assign(fitting);
    let at = 0;
    this.#slots = Int32Array.from(this.#plan.series, (one) => (one === fitting[at] ? slots[at++]! : -1));
    if (this.#owner === NOBODY || this.#table.dictionary !== before)
      this.#owner = new Int32Array(this.#table.values.length).fill(-1);
    const over = this.#plan.series.filter((_, i) => this.#slots[i] === -1);
    const named = [...new Set(over.map(({ name }) => name))].slice(0, NAMED_REFUSED).join(', ');
    if (named !== '' && named !== this.#lastRefused) {
      this.#options.logger.warn(
        { source: NAME, refused: over.length, limit: this.#table.values.length, names: named },
        'series over the limit are refused',
      );
    }
    this.#lastRefused = named;
  }

  /** One sample: into its slots, or counted under a reason. */
  #take(route: Route, line: number, printed: number, sightings: XidSighting[]): void {
    const { field, blank, canonical, asGiven } = route;
    // Turns -0, which exporters print and nobody means, into 0.
    const value = printed + 0;
    if (blank !== undefined && isDcgmBlank(value, blank)) {
      this.#reject('blank', 1);
      if (canonical >= 0) this.#blank(this.#slots[canonical]!, line);
      if (asGiven >= 0) this.#blank(this.#slots[asGiven]!, line);
      return;
    }
    const converted = field === undefined ? value : toCanonical(field, value);
    let state: SlotState = SlotState.Present;
    if (Number.isNaN(value)) {
      state = SlotState.Quarantined;
      this.#reject('not_a_number', 1);
    } else if (field !== undefined && (converted < field.metric.min || converted > field.metric.max)) {
      state = SlotState.Quarantined;
      this.#reject('out_of_range', 1);
    } else {
      noteXid(route, value, sightings);
    }
    if (route.refused) this.#reject('label_limit', 1);
    if (canonical >= 0) this.#fill(this.#slots[canonical]!, line, converted, state);
    if (asGiven >= 0) this.#fill(this.#slots[asGiven]!, line, value, state);
  }

  /** Says that there is nothing, unless another field of the same meaning has the slot. */
  #blank(slot: number, line: number): void {
    if (slot < 0) return;
    const owner = this.#owner[slot]!;
    const free = this.#table.states[slot] === SlotState.Absent;
    if (free && (owner < 0 || owner === line)) this.#table.states[slot] = SlotState.Blank;
  }

  #fill(slot: number, line: number, value: number, state: SlotState): void {
    if (slot < 0) {
      this.#reject('series_limit', 1);
      return;
    }
    const owner = this.#owner[slot]!;
    const taken =
      this.#table.states[slot] !== SlotState.Absent && this.#table.states[slot] !== SlotState.Blank;
    if (taken || (owner >= 0 && owner !== line)) {
      this.#reject('duplicate', 1);
      return;
    }
    if (state === SlotState.Present) this.#owner[slot] = line;
    this.#put(slot, value, state);
  }

  #put(slot: number, value: number, state: SlotState): void {
    if (slot < 0) return;
    this.#table.values[slot] = value;
    this.#table.states[slot] = state;
  }

  #putOwn(up: number, tookMs: number, samples: number): void {
    this.#put(this.#slots[UP]!, up, SlotState.Present);
    this.#put(this.#slots[DURATION]!, Math.round(tookMs * 1000) / 1e6, SlotState.Present);
    this.#put(this.#slots[SAMPLES]!, samples, SlotState.Present);
  }

  #reject(reason: RejectReason, count: number): void {
    if (count > 0) this.#rejected.set(reason, (this.#rejected.get(reason) ?? 0) + count);
  }

  #note(error: unknown): string {
    const problem = describeError(error);
    if (problem !== this.#lastProblem) this.#options.logger.warn({ source: NAME }, problem);
    this.#lastProblem = problem;
    return problem;
  }
}

/** Both Xid fields tell the watch; which it is, their canonical metric says. */
function noteXid({ field, gpu, migId, head }: Route, value: number, sightings: XidSighting[]): void {
  if (gpu === undefined) return;
  if (field?.metric.name === 'gpu_xid_last') {
    if (Number.isInteger(value)) sightings.push({ gpu, migId, code: value, count: undefined });
  } else if (field?.metric.name === 'gpu_xid_errors_recent') {
    const code = Number(head.labels.find(([name]) => name === 'xid')?.[1]);
    if (Number.isInteger(code) && code > 0 && code <= MAX_XID)
      sightings.push({ gpu, migId, code, count: value });
  }
}
