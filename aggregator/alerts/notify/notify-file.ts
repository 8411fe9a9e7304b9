import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { duration, httpUrl } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { LocatedYaml } from '../files/located-yaml.ts';
import type { TimeSpec } from '../files/time-interval.ts';
import { readTimeIntervals } from '../files/time-interval-file.ts';
import { readInhibitRules } from '../mute/inhibit-rules.ts';
import { compileMatcher, matchesAll, parseMatcher } from '../mute/matchers.ts';
import { compileTemplate, type Template } from '../rules/annotations.ts';
import { COUNT_NAMES } from './compose.ts';
import type { EndpointSettings, NotifySettings, Route } from './notify-settings.ts';
import type { ReceiverKind } from './receivers/receiver-kind.ts';

/** A file larger than this is not one. */
export const MAX_NOTIFY_BYTES = 1024 * 1024;
/** Routes and ways to people: each alert is matched against all routes, and each way keeps its own books. */
const MAX_ROUTES = 500;
const MAX_ENDPOINTS = 100;
const MAX_DEPTH = 10;
/** Alertmanager waits 30 s, its other defaults are these; GPUs cost more by the second, so ours waits 10 s. */
const DEFAULTS = { wait: 10_000, interval: 300_000, repeat: 4 * 3_600_000 };

const texts = v.array(v.string('must be a text'), 'must be a list of texts');
const routeSchema = v.strictObject({
  receiver: v.optional(v.string('must be the name of a receiver')),
  group_by: v.optional(v.pipe(texts, v.maxLength(16, 'must be at most 16 labels'))),
  group_wait: v.optional(duration(0, 3_600_000)),
  group_interval: v.optional(duration(1_000, 24 * 3_600_000)),
  repeat_interval: v.optional(duration(60_000, 30 * 24 * 3_600_000)),
  matchers: v.optional(texts, []),
  continue: v.optional(v.boolean('must be true or false'), false),
  mute_time_intervals: v.optional(texts, []),
  active_time_intervals: v.optional(texts, []),
  routes: v.optional(v.array(v.unknown(), 'must be a list'), []),
});
const fileSchema = v.strictObject({
  link: v.optional(v.pipe(httpUrl, v.maxLength(500, 'must be at most 500 characters'))),
  route: v.unknown(),
  time_intervals: v.optional(v.array(v.unknown(), 'must be a list'), []),
  inhibit_rules: v.optional(v.array(v.unknown(), 'must be a list'), []),
  inhibit_defaults: v.optional(v.boolean('must be true or false'), true),
  templates: v.optional(
    v.strictObject({
      title: v.optional(v.string('must be a text')),
      text: v.optional(v.string('must be a text')),
    }),
    {},
  ),
  receivers: v.array(v.unknown(), 'must be a list'),
});
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

type Kinds = Readonly<Record<string, ReceiverKind>>;

/** Reads a notify file. Throws `invalid_config` with every fault, its line and column. */
export function parseNotifyFile(text: string, source: string, kinds: Kinds): NotifySettings {
  const yaml = new LocatedYaml(text, source);
  const outer = v.safeParse(fileSchema, yaml.content);
  if (!outer.success) {
    yaml.issues([], outer.issues);
    yaml.check('notifications');
  }
  const file = outer.output as v.InferOutput<typeof fileSchema>;
  const intervals = readTimeIntervals(file.time_intervals, yaml);
  const receivers = readReceivers(file.receivers, kinds, yaml);
  const route = new RouteReader(yaml, intervals, receivers).read(file.route);
  const templates = {
    title: readTemplate(file.templates.title, 'title', yaml),
    text: readTemplate(file.templates.text, 'text', yaml),
  };
  const inhibitRules = readInhibitRules(file.inhibit_rules, (path, message) =>
    yaml.fault(['inhibit_rules', ...path], message),
  );
  yaml.check('notifications');
  return {
    link: file.link ?? '',
    route: route!,
    receivers,
    templates,
    inhibitRules,
    inhibitDefaults: file.inhibit_defaults,
  };
}

function readTemplate(text: string | undefined, name: string, yaml: LocatedYaml): Template | undefined {
  if (text === undefined) return undefined;
  const template = compileTemplate(text, COUNT_NAMES);
  if ('parts' in template) return template;
  yaml.fault(['templates', name], template.fault);
  return undefined;
}

function readReceivers(
  list: readonly unknown[],
  kinds: Kinds,
  yaml: LocatedYaml,
): Map<string, EndpointSettings[]> {
  const receivers = new Map<string, EndpointSettings[]>();
  let count = 0;
  for (const [index, raw] of list.entries()) {
    const path = ['receivers', index];
    const { name, ...ways } = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
    if (typeof name !== 'string' || !NAME.test(name)) {
      yaml.fault([...path, 'name'], 'must be 1 to 63 of letters, digits, _, . and -');
      continue;
    }
    if (receivers.has(name)) yaml.fault([...path, 'name'], `"${name}" is there twice`);
    const endpoints = Object.entries(ways).flatMap(([kind, entries]) =>
      readWays(name, kind, entries, [...path, kind], kinds, yaml),
    );
    count += endpoints.length;
    receivers.set(name, endpoints);
  }
  if (count > MAX_ENDPOINTS) yaml.fault(['receivers'], `must be at most ${MAX_ENDPOINTS} ways to people`);
  return receivers;
}

function readWays(
  receiver: string,
  kind: string,
  entries: unknown,
  path: readonly (string | number)[],
  kinds: Kinds,
  yaml: LocatedYaml,
): EndpointSettings[] {
  const known = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (known === undefined) {
    yaml.fault(path, `is no kind of receiver: must be ${Object.keys(kinds).join(', ')}`);
    return [];
  }
  if (!Array.isArray(entries)) {
    yaml.fault(path, 'must be a list');
    return [];
  }
  return entries.flatMap((raw: unknown, index) => {
    const parsed = v.safeParse(known.schema, raw);
    if (!parsed.success) {
      yaml.issues([...path, index], parsed.issues);
      return [];
    }
    const settings = parsed.output;
    return {
      id: `${receiver}:${kind}:${index}`,
      receiver,
      kind,
      sendResolved: settings.send_resolved,
      rateLimit: settings.rate_limit,
      timeoutMs: settings.timeout,
      settings,
    };
  });
}

type Inherited = Pick<
  Route,
  'receiver' | 'groupBy' | 'groupWaitMs' | 'groupIntervalMs' | 'repeatIntervalMs' | 'key'
>;

/** Routes with what they inherit. */
class RouteReader {
  readonly #yaml: LocatedYaml;
  readonly #intervals: ReadonlyMap<string, readonly TimeSpec[]>;
  readonly #receivers: ReadonlyMap<string, unknown>;
  #count = 0;

  constructor(
    yaml: LocatedYaml,
    intervals: ReadonlyMap<string, readonly TimeSpec[]>,
    receivers: ReadonlyMap<string, unknown>,
  ) {
    this.#yaml = yaml;
    this.#intervals = intervals;
    this.#receivers = receivers;
  }

  read(raw: unknown): Route | undefined {
    const root: Inherited = {
      ...{ key: '', receiver: '', groupBy: ['cluster', 'rule'] },
      ...{
        groupWaitMs: DEFAULTS.wait,
        groupIntervalMs: DEFAULTS.interval,
        repeatIntervalMs: DEFAULTS.repeat,
      },
    };
    const route = this.#route(raw, ['route'], root, 0);
    const given = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
    if (given.receiver === undefined) this.#yaml.fault(['route'], 'must have a receiver');
    for (const name of ['matchers', 'mute_time_intervals', 'active_time_intervals', 'continue'])
      if (name in given)
        this.#yaml.fault(['route', name], 'is not for the first route: it takes every alert');
    return route;
  }

  #route(raw: unknown, path: (string | number)[], from: Inherited, depth: number): Route | undefined {
    if (depth > MAX_DEPTH || ++this.#count > MAX_ROUTES) {
      this.#yaml.fault(path, `is one too many: at most ${MAX_ROUTES} routes, ${MAX_DEPTH} within each other`);
      return undefined;
    }
    const parsed = v.safeParse(routeSchema, raw);
    if (!parsed.success) {
      this.#yaml.issues(path, parsed.issues);
      return undefined;
    }
    const given = parsed.output;
    const receiver = given.receiver ?? from.receiver;
    if (given.receiver !== undefined && !this.#receivers.has(receiver))
      this.#yaml.fault([...path, 'receiver'], `"${receiver}" is no receiver of this file`);
    const own: Inherited = {
      key: routeKey(from.key, receiver, given.matchers),
      receiver,
      groupBy: given.group_by ?? from.groupBy,
      groupWaitMs: given.group_wait ?? from.groupWaitMs,
      groupIntervalMs: given.group_interval ?? from.groupIntervalMs,
      repeatIntervalMs: given.repeat_interval ?? from.repeatIntervalMs,
    };
    const routes = given.routes.flatMap(
      (child, index) => this.#route(child, [...path, 'routes', index], own, depth + 1) ?? [],
    );
    return {
      ...own,
      matches: this.#matcher(given.matchers, [...path, 'matchers']),
      continue: given.continue,
      mutedIn: this.#named(given.mute_time_intervals, [...path, 'mute_time_intervals']),
      activeIn: this.#named(given.active_time_intervals, [...path, 'active_time_intervals']),
      routes,
    };
  }

  #matcher(matchers: readonly string[], path: (string | number)[]): Route['matches'] {
    const compiled = matchers.flatMap((text, index) => {
      try {
        return compileMatcher(parseMatcher(text));
      } catch (thrown) {
        this.#yaml.fault([...path, index], describeError(thrown));
        return [];
      }
    });
    return (alert) => matchesAll(compiled, alert);
  }

  #named(names: readonly string[], path: (string | number)[]): (readonly TimeSpec[])[] {
    return names.flatMap((name, index) => {
      const specs = this.#intervals.get(name);
      if (specs !== undefined) return [specs];
      this.#yaml.fault([...path, index], `"${name}" is no time interval of this file`);
      return [];
    });
  }
}

/** What a route is for, not where it stands: a route that is put before it does not make its groups new ones. */
function routeKey(parent: string, receiver: string, matchers: readonly string[]): string {
  const text = JSON.stringify([parent, receiver, [...matchers].sort()]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
