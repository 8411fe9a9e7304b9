import type { Kind, Labels, Series } from '#shared/model/dictionary.ts';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { TextBudget } from '../text-budget.ts';
import type { Exposition, Family, SampleHead } from './exposition.ts';
import type { Labelled } from './relabel.ts';

export interface PagePlannerOptions {
  /** The labels `job` and `instance`. */
  readonly target: Readonly<Record<'job' | 'instance', string>>;
  readonly honorLabels: boolean;
  readonly relabel: (given: Labelled) => Labelled | undefined;
  readonly labelLimit: number;
  /** Bytes. */
  readonly labelValueLimit: number;
}

/** What becomes of a page's lines: made anew whenever they change. */
export interface PagePlan {
  readonly series: readonly Series[];
  /** For each line's head, the index in `series`, or -1. */
  readonly routes: Int32Array;
  /** Lines that relabelling dropped. */
  readonly dropped: number;
  /** Lines over a limit of labels, and some of their names. */
  readonly refused: number;
  readonly refusedNames: readonly string[];
  /** Lines that no dictionary has room for. */
  readonly crowded: number;
}

/** Enough to recognise who is too many. */
export const NAMED_REFUSED = 5;
const MAX_HELP_CHARACTERS = 1024;
/** Suffixes of the samples of a family, by its type. */
const SUFFIX = /_(?:bucket|count|sum|total|created|info|gcount|gsum)$/;
const COUNTED = /_(?:bucket|count|sum|total)$/;

/**
 * Plans what a page's lines become. In order, as Prometheus does it: the labels `job` and `instance` are added (a
 * page's own are renamed `exported_...`, or win where they are honoured), metric_relabel_configs, limits. A page's
 * `node` and `cluster` are always renamed: those are the aggregator's to set.
 */
export class PagePlanner {
  readonly #options: PagePlannerOptions;
  /** A head is one object for as long as its line is on the page: relabelling runs once for each. */
  readonly #known = new WeakMap<SampleHead, Labelled | 'dropped' | 'refused'>();

  constructor(options: PagePlannerOptions) {
    this.#options = options;
  }

  plan({ heads, families }: Exposition): PagePlan {
    const series: Series[] = [];
    const budget = new TextBudget();
    const refusedNames = new Set<string>();
    let dropped = 0;
    let refused = 0;
    let crowded = 0;
    const routes = Int32Array.from(heads, (head) => {
      const found = this.#labelled(head);
      if (found === 'dropped') dropped++;
      else if (found === 'refused') {
        refused++;
        if (refusedNames.size < NAMED_REFUSED) refusedNames.add(head.name.slice(0, 100));
      } else {
        const one = seriesOf(head, found, families);
        if (budget.takes(one)) return series.push(one) - 1;
        crowded++;
      }
      return -1;
    });
    return { series, routes, dropped, refused, refusedNames: [...refusedNames], crowded };
  }

  #labelled(head: SampleHead): Labelled | 'dropped' | 'refused' {
    let known = this.#known.get(head);
    if (known === undefined) {
      known = this.#relabelled(head);
      this.#known.set(head, known);
    }
    return known;
  }

  #relabelled(head: SampleHead): Labelled | 'dropped' | 'refused' {
    const { target, honorLabels, relabel, labelLimit, labelValueLimit } = this.#options;
    const relabelled = relabel({ name: head.name, labels: withTarget(head.labels, target, honorLabels) });
    if (relabelled === undefined) return 'dropped';
    const { name } = relabelled;
    const labels = withoutReserved(relabelled.labels);
    const fits =
      labels.length <= labelLimit &&
      labels.every(([, value]) => Buffer.byteLength(value) <= labelValueLimit) &&
      seriesFault({ name, labels, kind: 'gauge', decimals: 0, help: '', unit: '' }) === undefined;
    return fits ? { name, labels } : 'refused';
  }
}

/** Adds the target's labels; one that the page has too is renamed, or wins. */
function withTarget(labels: Labels, target: Readonly<Record<string, string>>, honor: boolean): Labels {
  const all = new Map(labels);
  for (const [name, value] of Object.entries(target)) {
    const own = all.get(name);
    if (own !== undefined && honor) continue;
    all.set(name, value);
    if (own !== undefined) all.set(freeName(name, all), own);
  }
  return sorted(all);
}

function withoutReserved(labels: Labels): Labels {
  if (!labels.some(([name]) => RESERVED.has(name))) return labels;
  const all = new Map(labels);
  for (const name of RESERVED) {
    const own = all.get(name);
    if (own === undefined) continue;
    all.set(freeName(name, all), own);
    all.delete(name);
  }
  return sorted(all);
}

const RESERVED: ReadonlySet<string> = new Set(['node', 'cluster']);

function freeName(name: string, taken: ReadonlyMap<string, string>): string {
  let free = `exported_${name}`;
  while (taken.has(free)) free = `exported_${free}`;
  return free;
}

function sorted(labels: ReadonlyMap<string, string>): Labels {
  return [...labels].sort(([a], [b]) => (a < b ? -1 : 1));
}

function seriesOf(
  { name: given, decimals }: SampleHead,
  { name, labels }: Labelled,
  families: ReadonlyMap<string, Family>,
): Series {
  // The family is named as the sample, or without its suffix: all of histograms and summaries, OpenMetrics' counters.
  const family = families.get(given) ?? families.get(given.replace(SUFFIX, ''));
  return {
    name,
    labels,
    kind: kindOf(given, family?.type ?? ''),
    decimals,
    help: (family?.help ?? '').slice(0, MAX_HELP_CHARACTERS),
    unit: (family?.unit ?? '').slice(0, MAX_HELP_CHARACTERS),
  };
}

/** Histograms and summaries count in buckets, counts and sums; their quantiles and times of creation are gauges. */
function kindOf(name: string, type: string): Kind {
  if (type === 'counter') return name.endsWith('_created') ? 'gauge' : 'counter';
  const counts = (type === 'histogram' || type === 'summary') && COUNTED.test(name);
  return counts ? 'counter' : 'gauge';
}
