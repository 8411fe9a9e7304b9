import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { LocatedYaml } from '../files/located-yaml.ts';
import { isWithin } from '../files/time-interval.ts';
import { readTimeIntervals } from '../files/time-interval-file.ts';
import { type CompiledMatcher, compileMatcher, matchesAll, parseMatcher } from '../mute/matchers.ts';
import type { ExecutorKind } from './executors/executor-kind.ts';
import type { ActionSettings, ActionWindow, Policy, PolicyStep } from './policy.ts';
import { MAX_OUT } from './pool-shares.ts';

/** A file larger than this is not one. */
const MAX_BYTES = 1024 * 1024;
/** Each alert is matched against all of them, and their names are label values of counters. */
const MAX_POLICIES = 100;
/** What the steps leave behind for an undo, 8 KiB each, has to fit into a document of 64 KiB with two audit lines. */
const MAX_STEPS = 5;
const DAY_MS = 86_400_000;

const mode = v.optional(v.picklist(['dry_run', 'live'], 'must be dry_run or live'), 'dry_run');
const texts = v.array(v.string('must be a text'), 'must be a list of texts');

const fileSchema = v.strictObject({
  mode,
  time_intervals: v.optional(v.array(v.unknown(), 'must be a list'), []),
  policies: v.pipe(
    v.array(v.unknown(), 'must be a list'),
    v.maxLength(MAX_POLICIES, `must be at most ${MAX_POLICIES} policies`),
  ),
});

const policySchema = v.strictObject({
  name: v.pipe(
    v.string('must be a name'),
    v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and -'),
  ),
  matchers: v.pipe(
    texts,
    // A policy for every alert there is would be a mistake more often than a wish.
    v.minLength(1, "must have at least one matcher, such as 'severity=critical'"),
    v.maxLength(20, 'must be at most 20 matchers'),
  ),
  for: v.optional(duration(0, DAY_MS), '0s'),
  mode,
  approval: v.optional(v.picklist(['required', 'none'], 'must be required or none'), 'required'),
  max_share: v.optional(
    v.pipe(
      v.number('must be a number from 0 to 1'),
      v.minValue(0, 'must be a number from 0 to 1'),
      v.maxValue(1, 'must be a number from 0 to 1'),
    ),
    // Own judgement: what a pool of a hundred misses without its jobs' deadlines moving.
    0.05,
  ),
  max_nodes: v.optional(
    v.pipe(
      v.number('must be a number of nodes'),
      v.integer('must be a number of nodes'),
      v.minValue(0, 'must be a number of nodes'),
      v.maxValue(MAX_OUT, `must be at most ${MAX_OUT}`),
    ),
    MAX_OUT,
  ),
  // Own judgement: a node that comes back broken within hours is for a person.
  cool_down: v.optional(duration(0, 7 * DAY_MS), '6h'),
  window: v.optional(v.string('must be the name of a time interval')),
  undo: v.optional(v.picklist(['on_resolve', 'by_hand'], 'must be on_resolve or by_hand'), 'by_hand'),
  steps: v.pipe(
    v.array(v.unknown(), 'must be a list'),
    v.minLength(1, 'must have at least one step'),
    v.maxLength(MAX_STEPS, `must be at most ${MAX_STEPS} steps`),
  ),
});

type Path = readonly (string | number)[];
type Kinds = Readonly<Record<string, ExecutorKind>>;

/**
 * Reads an actions file. Throws `invalid_config` with every fault, its line and column, such as
 * `actions.yaml:12:7: policies[0].max_share: must be a number from 0 to 1`.
 */
export function parseActionsFile(text: string, source: string, kinds: Kinds): ActionSettings {
  const yaml = new LocatedYaml(Buffer.byteLength(text) > MAX_BYTES ? '' : text, source);
  if (Buffer.byteLength(text) > MAX_BYTES) yaml.fault([], `is larger than ${MAX_BYTES} bytes`);
  yaml.check('actions');
  const outer = v.safeParse(fileSchema, yaml.content);
  if (!outer.success) yaml.issues([], outer.issues);
  yaml.check('actions');
  const file = outer.output as v.InferOutput<typeof fileSchema>;
  const reader = new PolicyReader(yaml, kinds, readWindows(file.time_intervals, yaml));
  const policies = file.policies.flatMap((raw, index) => reader.read(raw, ['policies', index]) ?? []);
  yaml.check('actions');
  return { mode: file.mode, policies };
}

function readWindows(list: readonly unknown[], yaml: LocatedYaml): ReadonlyMap<string, ActionWindow> {
  const windows = new Map<string, ActionWindow>();
  for (const [name, specs] of readTimeIntervals(list, yaml))
    windows.set(name, { name, contains: (atMs) => isWithin(specs, atMs) });
  return windows;
}

class PolicyReader {
  readonly #yaml: LocatedYaml;
  readonly #kinds: Kinds;
  readonly #windows: ReadonlyMap<string, ActionWindow>;
  readonly #names = new Set<string>();

  constructor(yaml: LocatedYaml, kinds: Kinds, windows: ReadonlyMap<string, ActionWindow>) {
    this.#yaml = yaml;
    this.#kinds = kinds;
    this.#windows = windows;
  }

  /** Undefined where it has faults, which are noted. */
  read(raw: unknown, path: Path): Policy | undefined {
    const parsed = v.safeParse(policySchema, raw);
    if (!parsed.success) {
      this.#yaml.issues(path, parsed.issues);
      return undefined;
    }
    const { name, for: forMs, ...given } = parsed.output;
    if (this.#names.has(name)) this.#yaml.fault([...path, 'name'], `"${name}" is there twice`);
    this.#names.add(name);
    const matchers = given.matchers.flatMap((text, i) => this.#matcher(text, [...path, 'matchers', i]) ?? []);
    return {
      name,
      matches: (alert) => matchesAll(matchers, alert),
      forMs,
      mode: given.mode,
      approval: given.approval,
      maxShare: given.max_share,
      maxNodes: given.max_nodes,
      coolDownMs: given.cool_down,
      window: this.#window(given.window, [...path, 'window']),
      undo: given.undo,
      steps: given.steps.flatMap((step, i) => this.#step(step, [...path, 'steps', i]) ?? []),
    };
  }

  #matcher(text: string, path: Path): CompiledMatcher | undefined {
    try {
      return compileMatcher(parseMatcher(text));
    } catch (thrown) {
      this.#yaml.fault(path, describeError(thrown));
      return undefined;
    }
  }

  #window(name: string | undefined, path: Path): ActionWindow | undefined {
    if (name === undefined) return undefined;
    const window = this.#windows.get(name);
    if (window === undefined) this.#yaml.fault(path, `"${name}" is not in time_intervals`);
    return window;
  }

  #step(raw: unknown, path: Path): PolicyStep | undefined {
    const entries = typeof raw === 'object' && raw !== null && !Array.isArray(raw) ? Object.entries(raw) : [];
    if (entries.length !== 1) {
      this.#yaml.fault(path, 'must be one kind of step and its settings, such as `mark: degraded`');
      return undefined;
    }
    const [kind, settings] = entries[0]!;
    const known = Object.hasOwn(this.#kinds, kind) ? this.#kinds[kind] : undefined;
    if (known === undefined) {
      this.#yaml.fault([...path, kind], `is no kind of step: must be ${Object.keys(this.#kinds).join(', ')}`);
      return undefined;
    }
    const parsed = v.safeParse(known.schema, settings);
    if (!parsed.success) {
      this.#yaml.issues([...path, kind], parsed.issues);
      return undefined;
    }
    const { takesOut, undoesUnsure } = known;
    return { kind, settings: parsed.output, takesOut, undoesUnsure };
  }
}
