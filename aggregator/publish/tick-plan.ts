import type { Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { nameFilter } from './name-filter.ts';
import type { PublishSettings } from './settings.ts';

/** What is published of the ticks of one dictionary. */
export interface TickPlan {
  /** The published series: the block's own dictionary where no metrics are filtered. */
  readonly dictionary: Dictionary;
  /** The block's slot of each published one; undefined where they are the same. */
  readonly slots: Int32Array | undefined;
  /** The hash as 16 hexadecimal digits. */
  readonly hash: string;
  /** The message that tells the dictionary, once it was made: some 3 kB for 400 series. */
  dictionaryBody: Uint8Array | undefined;
  /** In which session the dictionary was last given to its stream, and when it is due again, monotonic ms. */
  session: number;
  announceAt: number;
  /** Whose ticks came last, whether its node is wanted, and the end of their subject. */
  source: Source | undefined;
  wanted: boolean;
  subject: string;
}

/** Plans by dictionary, made once each; nothing of a block that no filter lets through. */
export class TickPlans {
  readonly #plans = new WeakMap<Dictionary, TickPlan | 'unwanted'>();
  readonly #node: (name: string) => boolean;
  readonly #group: (name: string) => boolean;
  readonly #metric: ((name: string) => boolean) | undefined;
  readonly #subjectOf: (source: Source, group: string) => string;

  constructor(settings: PublishSettings['ticks'], subjectOf: (source: Source, group: string) => string) {
    this.#node = nameFilter(settings.nodes);
    this.#group = nameFilter(settings.groups);
    this.#metric = settings.metrics && nameFilter(settings.metrics);
    this.#subjectOf = subjectOf;
  }

  of(dictionary: Dictionary, source: Source): TickPlan | undefined {
    let plan = this.#plans.get(dictionary);
    if (plan === undefined) {
      plan = this.#make(dictionary);
      this.#plans.set(dictionary, plan);
    }
    if (plan === 'unwanted') return undefined;
    if (plan.source !== source) {
      plan.source = source;
      plan.wanted = this.#node(source.node);
      plan.subject = this.#subjectOf(source, dictionary.group);
    }
    return plan.wanted ? plan : undefined;
  }

  #make(dictionary: Dictionary): TickPlan | 'unwanted' {
    const { group, intervalMs, series } = dictionary;
    if (!this.#group(group) || series.length === 0) return 'unwanted';
    const wanted = series.flatMap(({ name }, slot) => (this.#metric?.(name) === false ? [] : [slot]));
    if (wanted.length === 0) return 'unwanted';
    const all = wanted.length === series.length;
    const published = all
      ? dictionary
      : createDictionary(
          group,
          intervalMs,
          wanted.map((slot) => series[slot]!),
        );
    return {
      dictionary: published,
      slots: all ? undefined : Int32Array.from(wanted),
      hash: published.hash.toString(16).padStart(16, '0'),
      dictionaryBody: undefined,
      session: -1,
      announceAt: 0,
      source: undefined,
      wanted: false,
      subject: '',
    };
  }
}
