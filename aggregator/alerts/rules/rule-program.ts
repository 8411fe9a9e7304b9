import type { Block, Source } from '#shared/model/block.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { alertLabels, freeKey } from '../aggregate/series-labels.ts';
import { alertId } from '../alert-id.ts';
import type { Subject } from '../subject.ts';
import type { Operand, ThresholdRule } from './rules.ts';

/** What a check is about, with the id of its alert. */
export interface CheckSubject extends Subject {
  readonly id: string;
}

/** One rule on one series: which slots to read. */
export interface PlannedCheck {
  /** Among the rules, and among that rule's values. */
  readonly rule: number;
  readonly operand: number;
  readonly slot: number;
  /** The divisor's slot, or -1. */
  readonly over: number;
  /** For each level the slot of its limit, or -1; undefined where all limits are numbers. */
  readonly limitSlots: Int32Array | undefined;
}

/**
 * The checks of one dictionary: compiled once, then only indexed. 30 bytes each, as a large fleet has millions; what a
 * check is about is made when it first breaches.
 */
export class RuleProgram {
  readonly count: number;
  readonly #rules: readonly ThresholdRule[];
  readonly #source: Source;
  readonly #dictionary: Dictionary;
  readonly #ruleOf: Int32Array;
  readonly #operandOf: Int32Array;
  readonly #slots: Int32Array;
  readonly #overs: Int32Array;
  readonly #counterOf: Int32Array;
  /** A value needs a look where its product with the sign is above the edge: always, where the edge is not a number alone. */
  readonly #signs: Int8Array;
  readonly #edges: Float64Array;
  /** The slot that the edge is a factor of, or -1 where it is a number. */
  readonly #edgeSlots: Int32Array;
  /** 1 where the check has an alert, or may have one. */
  readonly #watched: Uint8Array;
  readonly #limitSlots: readonly (Int32Array | undefined)[];
  /** The checks that look at growth. */
  readonly #counters: number[] = [];
  readonly #subjects = new Map<number, CheckSubject>();

  constructor(
    source: Source,
    dictionary: Dictionary,
    rules: readonly ThresholdRule[],
    checks: readonly PlannedCheck[],
  ) {
    this.#source = source;
    this.#dictionary = dictionary;
    this.#rules = rules;
    this.count = checks.length;
    this.#ruleOf = Int32Array.from(checks, ({ rule }) => rule);
    this.#operandOf = Int32Array.from(checks, ({ operand }) => operand);
    this.#slots = Int32Array.from(checks, ({ slot }) => slot);
    this.#overs = Int32Array.from(checks, ({ over }) => over);
    this.#counterOf = new Int32Array(checks.length).fill(-1);
    this.#signs = Int8Array.from(checks, ({ rule }) => (rules[rule]!.direction === 'above' ? 1 : -1));
    this.#edges = new Float64Array(checks.length).fill(Number.NEGATIVE_INFINITY);
    this.#watched = new Uint8Array(checks.length);
    this.#edgeSlots = new Int32Array(checks.length).fill(-1);
    this.#limitSlots = checks.map(({ limitSlots }) => limitSlots);
    for (const [check, { rule, operand, over, limitSlots }] of checks.entries()) {
      const { levels, values } = rules[rule]!;
      const limit = levels[0]!.limit;
      if (values[operand]!.window !== undefined) {
        this.#counterOf[check] = this.#counters.push(check) - 1;
      } else if (over < 0 && limitSlots === undefined && typeof limit === 'number') {
        // The lowest level is the first that is reached: a file with others is refused.
        this.#edges[check] = limit * this.#signs[check]!;
      } else if (over < 0 && levels.length === 1 && typeof limit !== 'number') {
        this.#edges[check] = limit.times * this.#signs[check]!;
        this.#edgeSlots[check] = limitSlots![0]!;
      }
    }
  }

  /** The first check from `from` on that may have breached a limit, or has an alert; `count` where there is none. */
  next(from: number, { states, values }: Block): number {
    const count = this.count;
    const slots = this.#slots;
    const signs = this.#signs;
    const edges = this.#edges;
    const edgeSlots = this.#edgeSlots;
    const watched = this.#watched;
    for (let check = from; check < count; check++) {
      const slot = slots[check]!;
      if (states[slot] !== SlotState.Present) continue;
      if (watched[check] === 1) return check;
      const edgeSlot = edgeSlots[check]!;
      // Where the block does not hold the limit, it may be skipped or not: who looks finds none.
      const edge = edgeSlot < 0 ? edges[check]! : edges[check]! * values[edgeSlot]!;
      if (values[slot]! * signs[check]! > edge) return check;
    }
    return count;
  }

  /** Whether the check has an alert, as of the last `watch`. */
  watches(check: number): boolean {
    return this.#watched[check] === 1;
  }

  watch(check: number, on: boolean): void {
    this.#watched[check] = on ? 1 : 0;
  }

  rule(check: number): ThresholdRule {
    return this.#rules[this.#ruleOf[check]!]!;
  }

  /** What the check looks at: NaN where the block does not hold it. Of a counter it is not yet the growth. */
  read(check: number, { states, values }: Block): number {
    const slot = this.#slots[check]!;
    if (states[slot] !== SlotState.Present) return Number.NaN;
    const over = this.#overs[check]!;
    if (over < 0) return values[slot]!;
    if (states[over] !== SlotState.Present || values[over] === 0) return Number.NaN;
    return values[slot]! / values[over]!;
  }

  /** Puts the limit of each level into `limits`: NaN where the block does not hold it. */
  readLimits(check: number, block: Block, limits: Float64Array): void {
    const { levels } = this.rule(check);
    for (let level = 0; level < levels.length; level++) {
      const { limit } = levels[level]!;
      if (typeof limit === 'number') {
        limits[level] = limit;
        continue;
      }
      const slot = this.#limitSlots[check]![level]!;
      const there = block.states[slot] === SlotState.Present;
      limits[level] = there ? block.values[slot]! * limit.times : Number.NaN;
    }
  }

  /** Which counter of `windowsMs` the check looks at, or -1. */
  counter(check: number): number {
    return this.#counterOf[check]!;
  }

  /** What a counter's growth is divided by: seconds for a rate, else 1. */
  per(check: number): number {
    const window = this.#operand(check).window;
    return window?.fn === 'rate' ? window.ms / 1000 : 1;
  }

  /** Over how long each counter's growth is taken. */
  windowsMs(): number[] {
    return this.#counters.map((check) => this.#operand(check).window!.ms);
  }

  /** What each counter is, the same in any dictionary that has it. */
  counterKeys(): string[] {
    return this.#counters.map((check) => {
      const { name, labels } = this.#dictionary.series[this.#slots[check]!]!;
      return JSON.stringify([this.rule(check).name, name, labels]);
    });
  }

  /** Id of the check's alert, without keeping it. */
  alertId(check: number): string {
    return (this.#subjects.get(check) ?? this.#makeSubject(check)).id;
  }

  /** What the check is about; kept from the first call on. */
  subject(check: number): CheckSubject {
    let subject = this.#subjects.get(check);
    if (subject === undefined) {
      subject = this.#makeSubject(check);
      this.#subjects.set(check, subject);
    }
    return subject;
  }

  #operand(check: number): Operand {
    return this.rule(check).values[this.#operandOf[check]!]!;
  }

  #makeSubject(check: number): CheckSubject {
    const { cluster, node } = this.#source;
    const { labels, unit } = this.#dictionary.series[this.#slots[check]!]!;
    const operand = this.#operand(check);
    const gpuUuid = labelOf(labels, 'uuid') ?? '';
    const gpu = labelOf(labels, 'gpu') ?? '';
    const key = freeKey(labels, operand.labels);
    return {
      id: alertId(cluster, node, gpuUuid || gpu, this.rule(check).name, key),
      ...{ cluster, node, gpu, gpuUuid, key },
      gpuModel: labelOf(labels, 'model') ?? '',
      unit: operand.over ? '' : unit,
      labels: alertLabels(labels),
    };
  }
}
