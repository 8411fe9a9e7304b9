import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { type CompiledMatcher, compileMatcher, labelOf, MAX_VALUE, matchesAll } from './matchers.ts';
import { RegexSet } from './regex-set.ts';
import type { Silence } from './silence.ts';

interface Indexed {
  readonly id: string;
  /** What is left to ask once its key has matched. */
  readonly others: readonly CompiledMatcher[];
}

/** A matcher and which of the silences in LabelBits it is of. */
interface Owned {
  readonly silence: number;
  readonly matcher: CompiledMatcher;
}

/** Labels with so many values that a silence of one of them concerns few alerts: found by that value alone. */
const KEYS = ['gpu_uuid', 'node'];
/** The label that tells most alerts apart first: nearly always the answer is no. */
const LABELS = [...KEYS, 'gpu', 'key', 'rule', 'gpu_model', 'cluster', 'severity'];
/** Values of one label that are remembered: a fleet has about as many GPUs. */
const MAX_VALUES = 100_000;
/** An index is built anew for each change, of silences that are nearly all the same. */
const COMPILED = new WeakMap<Silence, readonly CompiledMatcher[]>();

/**
 * Which silences cover an alert, without asking each. A silence of a node or GPU by name is found by that name. Of the
 * others (at most a thousand, see silences.ts) each value of a label says once which it leaves over, as a set
 * of bits; an alert takes what all its labels leave over.
 */
export class SilenceIndex {
  readonly #byValue = new Map<string, Map<string, Indexed[]>>();
  readonly #ids: string[] = [];
  readonly #labels: LabelBits[];
  readonly #left: Uint32Array;

  constructor(silences: Iterable<Silence>) {
    const byLabel = new Map<string, Owned[]>();
    for (const silence of silences) {
      const compiled = compiledOf(silence);
      const key = compiled.find(({ label, operator }) => operator === '=' && KEYS.includes(label));
      if (key !== undefined) {
        this.#add(key, { id: silence.id, others: compiled.filter((matcher) => matcher !== key) });
        continue;
      }
      const at = this.#ids.push(silence.id) - 1;
      for (const matcher of compiled) push(byLabel, matcher.label, { silence: at, matcher });
    }
    this.#left = new Uint32Array(Math.ceil(this.#ids.length / 32));
    this.#labels = [...byLabel]
      .sort(([a], [b]) => rankOf(a) - rankOf(b))
      .map(([label, matchers]) => new LabelBits(label, matchers, this.#ids.length));
  }

  covering(alert: Alert): string[] {
    const ids: string[] = [];
    for (const [label, values] of this.#byValue)
      for (const { id, others } of values.get(labelOf(alert, label)) ?? [])
        if (matchesAll(others, alert)) ids.push(id);
    if (this.#anyLeft(alert)) this.#takeLeft(ids);
    return ids.length > 1 ? ids.sort() : ids;
  }

  #anyLeft(alert: Alert): boolean {
    const left = this.#left.fill(0xffff_ffff);
    let any = false;
    for (const label of this.#labels) {
      const bits = label.of(labelOf(alert, label.label));
      any = false;
      for (let i = 0; i < left.length; i++) {
        left[i]! &= bits[i]!;
        if (left[i] !== 0) any = true;
      }
      if (!any) return false;
    }
    return any;
  }

  #takeLeft(ids: string[]): void {
    for (let word = 0; word < this.#left.length; word++) {
      for (let bits = this.#left[word]!; bits !== 0; bits &= bits - 1)
        ids.push(this.#ids[word * 32 + 31 - Math.clz32(bits & -bits)]!);
    }
  }

  #add(key: CompiledMatcher, silence: Indexed): void {
    let values = this.#byValue.get(key.label);
    if (values === undefined) {
      values = new Map();
      this.#byValue.set(key.label, values);
    }
    push(values, key.value, silence);
  }
}

/** For each value of one label the silences that it does not rule out, as bits. */
class LabelBits {
  readonly label: string;
  readonly #matchers: readonly Owned[];
  /** Places of each silence's matchers of this label. */
  readonly #ofSilence = new Map<number, number[]>();
  /** Places of the matchers that name a value. */
  readonly #byValue = new Map<string, number[]>();
  /** Places of those with an expression, in the order of the set. */
  readonly #patterns: number[] = [];
  readonly #set: RegexSet;
  /** Of a value that nobody names and no expression matches. */
  readonly #others: Uint32Array;
  readonly #found = new Map<string, Uint32Array>();

  constructor(label: string, matchers: readonly Owned[], silences: number) {
    this.label = label;
    this.#matchers = matchers;
    this.#others = new Uint32Array(Math.ceil(silences / 32));
    for (let silence = 0; silence < silences; silence++) setBit(this.#others, silence, true);
    for (const [place, { silence, matcher }] of matchers.entries()) {
      push(this.#ofSilence, silence, place);
      if (matcher.regex !== undefined) this.#patterns.push(place);
      else push(this.#byValue, matcher.value, place);
      if (!isNegative(matcher)) setBit(this.#others, silence, false);
    }
    this.#set = new RegexSet(this.#patterns.map((place) => matchers[place]!.matcher.regex!));
  }

  of(value: string): Uint32Array {
    let bits = this.#found.get(value);
    if (bits === undefined) {
      bits = this.#judge(value);
      if (this.#found.size >= MAX_VALUES) this.#found.clear();
      this.#found.set(value, bits);
    }
    return bits;
  }

  #judge(value: string): Uint32Array {
    const hits = new Set(this.#byValue.get(value));
    if (value.length <= MAX_VALUE)
      for (const pattern of this.#set.matching(value)) hits.add(this.#patterns[pattern]!);
    if (hits.size === 0) return this.#others;
    const bits = this.#others.slice();
    for (const hit of hits) {
      const { silence } = this.#matchers[hit]!;
      const all = this.#ofSilence.get(silence)!;
      setBit(
        bits,
        silence,
        all.every((place) => hits.has(place) !== isNegative(this.#matchers[place]!.matcher)),
      );
    }
    return bits;
  }
}

function compiledOf(silence: Silence): readonly CompiledMatcher[] {
  let compiled = COMPILED.get(silence);
  if (compiled === undefined) {
    compiled = silence.matchers.map(compileMatcher);
    COMPILED.set(silence, compiled);
  }
  return compiled;
}

function isNegative({ operator }: CompiledMatcher): boolean {
  return operator === '!=' || operator === '!~';
}

function rankOf(label: string): number {
  const at = LABELS.indexOf(label);
  return at < 0 ? LABELS.indexOf('key') : at;
}

function setBit(bits: Uint32Array, at: number, on: boolean): void {
  const mask = 1 << (at & 31);
  bits[at >> 5] = on ? bits[at >> 5]! | mask : bits[at >> 5]! & ~mask;
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
