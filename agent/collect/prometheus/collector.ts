import { describeError, type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../collector.ts';
import { Deadline } from '../deadline.ts';
import { ReadingTable } from '../reading-table.ts';
import { type Exposition, ExpositionParser } from './exposition.ts';
import { NAMED_REFUSED, type PagePlan, PagePlanner } from './page-plan.ts';
import { compileRelabel } from './relabel.ts';
import { Scraper } from './scrape.ts';
import { authorizationOf, tlsOf } from './scrape-credentials.ts';
import type { TargetSettings } from './settings.ts';

export interface PrometheusOptions {
  readonly target: TargetSettings;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** OpenMetrics first: its end mark tells a whole page from one that was cut off. */
const ACCEPT = 'application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.7,*/*;q=0.1';
const OPEN_METRICS = /^application\/openmetrics-text\b/i;
/** HELP, TYPE, UNIT and one sample: a page with more lines than that has more series than the limit, or is no page. */
const LINES_PER_SERIES = 4;
/** Relabelling may drop nine lines of ten before the limit counts. */
const LINES_BEFORE_RELABELLING = 10;
const DENIED: ReadonlySet<ErrorCode> = new Set(['unauthenticated', 'permission_denied']);

/**
 * Scrapes any endpoint: all series pass through, with the labels `job` (the target's name) and `instance`, and
 * those that the page gives, after relabelling. Histograms and summaries are their series. Blank values, units and
 * names are taken as they are; NaN is quarantined.
 *
 * A scrape that fails is a reading with `up` 0 and everything in state Timeout, NoPermission (401, 403) or Absent;
 * the cause is logged once. Throws `invalid_config` for a rule that cannot be used.
 */
export class PrometheusCollector implements Collector {
  readonly name: string;
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: PrometheusOptions;
  readonly #scraper: Scraper;
  readonly #parser: ExpositionParser;
  readonly #planner: PagePlanner;
  readonly #table: ReadingTable;
  readonly #instance: string;
  #heads: Exposition['heads'] | undefined;
  #plan: PagePlan = NOTHING;
  #lastProblem = '';
  #lastRefused = '';

  constructor(options: PrometheusOptions) {
    const { target, intervalMs, clock } = options;
    const { url, series_limit, metric_relabel_configs: rules } = target;
    this.name = `prometheus/${target.name}`;
    this.intervalMs = intervalMs;
    this.#options = options;
    const authorization = authorizationOf(target);
    const tls = tlsOf(target);
    this.#scraper = new Scraper({
      url,
      maxBodyBytes: target.max_body_bytes,
      accept: ACCEPT,
      ...(authorization && { authorization }),
      ...(tls && { tls }),
    });
    const lines = series_limit * LINES_PER_SERIES;
    this.#parser = new ExpositionParser(rules.length > 0 ? lines * LINES_BEFORE_RELABELLING : lines);
    this.#instance = target.instance ?? hostAndPort(url);
    const labels = { job: target.name, instance: this.#instance };
    this.#planner = new PagePlanner({
      target: labels,
      honorLabels: target.honor_labels,
      relabel: compileRelabel(rules),
      labelLimit: target.label_limit,
      labelValueLimit: target.label_value_length_limit,
    });
    this.#table = new ReadingTable({
      source: this.name,
      intervalMs,
      clock,
      seriesLimit: series_limit,
      labels,
    });
  }

  describe(): string {
    const { origin, pathname } = new URL(this.#options.target.url);
    return `${origin}${pathname} as job "${this.#options.target.name}", ${this.#plan.series.length} series`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    using limit = new Deadline(this.#options.target.timeout, signal);
    const deadline = limit.signal;
    this.#table.begin();
    try {
      const exposition = await this.#scrape(deadline);
      this.#take(exposition);
      this.#lastProblem = '';
      return this.#table.finish();
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      this.#note(error);
      const denied = DENIED.has(error.code) ? SlotState.NoPermission : SlotState.Absent;
      return this.#table.failed(deadline.aborted ? SlotState.Timeout : denied, [], describeError(error));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scraper[Symbol.asyncDispose]();
  }

  async #scrape(signal: AbortSignal): Promise<Exposition> {
    const body = await this.#scraper.fetch(signal);
    const openMetrics = OPEN_METRICS.test(this.#scraper.contentType);
    if (openMetrics && !/(?:^|\n)# EOF\r?\n?$/.test(body.toString('latin1', Math.max(0, body.length - 16)))) {
      throw this.#failure('it is cut off: OpenMetrics that does not end with # EOF');
    }
    const exposition = this.#parser.parse(body, openMetrics);
    // A login form, for one, is a failure and not an endpoint without series.
    if (exposition.heads.length === 0 && exposition.malformed > 0) {
      throw this.#failure(`none of its ${exposition.malformed} lines is Prometheus text`);
    }
    return exposition;
  }

  #take(exposition: Exposition): void {
    const { heads, values, malformed, unread } = exposition;
    if (heads !== this.#heads) {
      this.#heads = heads;
      this.#plan = this.#planner.plan(exposition);
    }
    const { series, routes, dropped, refused, crowded } = this.#plan;
    const { sample_limit: limit = Number.POSITIVE_INFINITY } = this.#options.target;
    if (series.length > limit) throw this.#failure(`${series.length} samples, at most ${limit} are allowed`);
    this.#nameRefused(unread);
    this.#table.plan(series);
    this.#table.reject('malformed', malformed);
    this.#table.reject('dropped', dropped);
    this.#table.reject('label_limit', refused);
    this.#table.reject('series_limit', crowded + unread);
    for (let i = 0; i < routes.length; i++) {
      const route = routes[i]!;
      if (route >= 0) this.#table.put(route, values[i]!);
    }
  }

  /** Once for each kind of excess, with names. */
  #nameRefused(unread: number): void {
    const { refused, refusedNames, crowded, series } = this.#plan;
    const limit = this.#options.target.series_limit;
    const over = series.slice(limit).map(({ name }) => name);
    const names = [...new Set([...refusedNames, ...over])].slice(0, NAMED_REFUSED).join(', ');
    const problem =
      refused + crowded + over.length + unread === 0 ? '' : `${names} (and ${crowded} + ${unread})`;
    if (problem !== '' && problem !== this.#lastRefused) {
      this.#options.logger.warn(
        { source: this.name, labels: refused, series: over.length + crowded + unread, limit, names },
        'series over a limit are refused',
      );
    }
    this.#lastRefused = problem;
  }

  #failure(what: string): FleetError {
    const { origin, pathname } = new URL(this.#options.target.url);
    return new FleetError('unavailable', `Cannot scrape ${origin}${pathname}: ${what}`);
  }

  #note(error: FleetError): void {
    const problem = describeError(error);
    if (problem !== this.#lastProblem) this.#options.logger.warn({ source: this.name }, problem);
    this.#lastProblem = problem;
  }
}

const NOTHING: PagePlan = {
  series: [],
  routes: new Int32Array(0),
  dropped: 0,
  refused: 0,
  refusedNames: [],
  crowded: 0,
};

/** As Prometheus fills `instance`: the port is there where the URL leaves it out. */
function hostAndPort(url: string): string {
  const { protocol, hostname, port } = new URL(url);
  return `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`;
}
