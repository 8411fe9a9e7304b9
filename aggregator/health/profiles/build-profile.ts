import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { XidSeverity } from '#shared/catalogue/xid.ts';
import type { Fault } from '#shared/config/load-config.ts';
import type { Breakpoints } from '../badness.ts';
import { modelPattern } from './model-pattern.ts';
import { LIMIT_NAMES, type LimitName, SIGNAL_NAMES, type SignalName } from './names.ts';
import type { EventRules, Profile, SignalRule, XidCap } from './profile.ts';
import type { ProfileFile } from './profile-file.ts';

const DIMENSIONS = {
  memory: HealthDimension.MEMORY,
  thermal: HealthDimension.THERMAL,
  power: HealthDimension.POWER,
  performance: HealthDimension.PERFORMANCE,
  reliability: HealthDimension.RELIABILITY,
} as const;
const SEVERITIES: readonly XidSeverity[] = ['info', 'warning', 'error', 'critical'];
/** A profile may extend one that extends another; deeper is a circle, or nobody's to follow. */
const MAX_DEPTH = 8;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const GIBIBYTE = 2 ** 30;

/**
 * A profile with everything that it takes over from those that it extends. Where something is missing or the chain
 * does not end, faults instead.
 */
export function buildProfile(
  file: ProfileFile,
  byName: ReadonlyMap<string, ProfileFile>,
):
  | { readonly profile: Profile; readonly faults?: never }
  | { readonly faults: readonly Fault[]; readonly profile?: never } {
  const chain = chainOf(file, byName);
  if (typeof chain === 'string') return { faults: [{ path: 'extends', message: chain }] };
  const faults: Fault[] = [];
  const signals = SIGNAL_NAMES.flatMap((name) => signalRule(name, chain, faults) ?? []);
  const events = eventRules(chain, faults);
  if (faults.length > 0) return { faults };
  const { name, version } = file;
  return { profile: { name, version, matches: matcherOf(file), ...limitsOf(chain), signals, events } };
}

/** From the root (`generic`) to the profile itself. */
function chainOf(
  file: ProfileFile,
  byName: ReadonlyMap<string, ProfileFile>,
): readonly ProfileFile[] | string {
  const chain = [file];
  while (chain[0]!.name !== 'generic') {
    const parent = chain[0]!.extends ?? 'generic';
    const next = byName.get(parent);
    if (next === undefined) return `there is no profile ${parent}`;
    chain.unshift(next);
    if (chain.length > MAX_DEPTH) return `leads through more than ${MAX_DEPTH} profiles, or in a circle`;
  }
  return chain;
}

function signalRule(
  name: SignalName,
  chain: readonly ProfileFile[],
  faults: Fault[],
): SignalRule | undefined {
  const one = Object.assign({}, ...chain.map(({ signals }) => signals?.[name] ?? {})) as NonNullable<
    NonNullable<ProfileFile['signals']>[SignalName]
  >;
  if (one.enabled === false) return undefined;
  const { dimension, points, weight, points_source: source } = one;
  if (dimension === undefined || points === undefined || weight === undefined || source === undefined) {
    faults.push({
      path: `signals.${name}`,
      message: 'it needs dimension, points, points_source, weight and weight_source',
    });
    return undefined;
  }
  const log = one.scale === 'log';
  if (log && points.some((value) => value <= 0)) {
    faults.push({ path: `signals.${name}.points`, message: 'must be over 0 on a log scale' });
    return undefined;
  }
  const sign = points[3] >= points[0] ? 1 : -1;
  for (const { from } of one.caps ?? []) {
    if ((from - points[0]) * sign > 0) continue;
    const message = `a cap from ${from} would hold the score where the signal is good, which is to ${points[0]}`;
    faults.push({ path: `signals.${name}.caps`, message });
    return undefined;
  }
  return {
    name,
    dimension: DIMENSIONS[dimension],
    points,
    scaled: log ? (points.map(Math.log) as unknown as Breakpoints) : points,
    log,
    source,
    weight,
    required: one.required ?? false,
    caps: one.caps ?? [],
  };
}

function eventRules(chain: readonly ProfileFile[], faults: Fault[]): EventRules {
  const severities: Partial<Record<XidSeverity, number>> = {};
  const xids = new Map<number, number>();
  const xidCaps = new Map<number, XidCap>();
  let halfLifeDays: number | undefined;
  for (const { events } of chain) {
    halfLifeDays = events?.half_life_days?.value ?? halfLifeDays;
    for (const severity of SEVERITIES) {
      const weight = events?.severities?.[severity];
      if (weight !== undefined) severities[severity] = weight.value;
    }
    for (const { codes, value } of events?.xids ?? []) for (const code of codes) xids.set(code, value);
    for (const { codes, score, hours, source } of events?.xid_caps ?? [])
      for (const code of codes) xidCaps.set(code, { score, windowMs: hours * HOUR_MS, source });
  }
  if (halfLifeDays === undefined) faults.push({ path: 'events.half_life_days', message: 'it is missing' });
  for (const severity of SEVERITIES) {
    if (severities[severity] === undefined)
      faults.push({ path: `events.severities.${severity}`, message: 'it is missing' });
  }
  return {
    halfLifeMs: (halfLifeDays ?? 1) * DAY_MS,
    severities: severities as Record<XidSeverity, number>,
    xids,
    xidCaps,
  };
}

function limitsOf(chain: readonly ProfileFile[]): Pick<Profile, 'limits' | 'limitSources'> {
  const limits = Object.fromEntries(LIMIT_NAMES.map((name) => [name, Number.NaN])) as Record<
    LimitName,
    number
  >;
  const limitSources: Partial<Record<LimitName, string>> = {};
  for (const { limits: own } of chain) {
    for (const name of LIMIT_NAMES) {
      const limit = own?.[name];
      if (limit === undefined) continue;
      limits[name] = limit === null ? Number.NaN : limit.value;
      if (limit === null) delete limitSources[name];
      else limitSources[name] = limit.source;
    }
  }
  return { limits, limitSources };
}

/** Without `match` a profile is only there to be extended; `generic` takes what nobody else took. */
function matcherOf({ match }: ProfileFile): Profile['matches'] {
  if (match === undefined) return () => false;
  const pattern = modelPattern(match.model);
  const size = match.memory_gib;
  if (size === undefined) return pattern;
  return (model, memoryBytes) =>
    memoryBytes >= size[0] * GIBIBYTE && memoryBytes <= size[1] * GIBIBYTE && pattern(model);
}
