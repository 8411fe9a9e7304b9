import * as v from 'valibot';
import { isRecord, takeIssues } from '../files/take-issues.ts';
import type { Path, YamlFaults } from '../files/yaml-faults.ts';
import { duration, number, relativeSchema, SEVERITIES } from './rule-schema.ts';
import type { Level, LevelledRule, Limit } from './rules.ts';

/** What the limits of a rule are: numbers or other series, durations, numbers, or shares of 1. */
type LimitKind = 'threshold' | 'absent' | 'aggregate' | 'share';

/**
 * The levels of a rule in rising severity. Their limits' faults are noted here, the rest of their shape is the
 * schema's; undefined where either makes them useless.
 */
export function readLevels(
  kind: LimitKind,
  rule: Record<string, unknown>,
  at: Path,
  faults: YamlFaults,
): Pick<LevelledRule, 'levels' | 'direction'> | undefined {
  const before = faults.count;
  const ruleForMs = readFor(rule.for) ?? 0;
  const levels: Level[] = [];
  const directions = new Set<'above' | 'below'>();
  for (const [index, one] of (Array.isArray(rule.severities) ? rule.severities : []).entries()) {
    const path: Path = [...at, 'severities', index];
    if (!isRecord(one)) continue;
    if ('above' in one === 'below' in one) {
      faults.add(path, 'must have either above or below');
      continue;
    }
    const direction = 'above' in one ? 'above' : 'below';
    directions.add(direction);
    const limit = readLimit(kind, one[direction], [...path, direction], faults);
    if (kind === 'absent' && direction === 'below')
      faults.add([...path, 'below'], 'must be above', { key: true });
    const severity = SEVERITIES[one.severity as keyof typeof SEVERITIES];
    if (severity !== undefined) levels.push({ severity, limit, forMs: readFor(one.for) ?? ruleForMs });
  }
  const path = [...at, 'severities'];
  if (directions.size > 1) faults.add(path, 'must be all above or all below');
  const [direction] = directions;
  if (direction === undefined || faults.count > before) return undefined;
  levels.sort((a, b) => a.severity - b.severity);
  checkLevels(levels, direction, path, faults);
  return { levels, direction };
}

function readLimit(kind: LimitKind, raw: unknown, path: Path, faults: YamlFaults): Limit {
  if (kind === 'absent') {
    const parsed = v.safeParse(duration, raw);
    if (parsed.success) return parsed.output / 1000;
    takeIssues(parsed.issues, path, faults);
    return Number.NaN;
  }
  const relative = kind === 'threshold' && isRecord(raw);
  const parsed = relative ? v.safeParse(relativeSchema, raw) : v.safeParse(number, raw);
  if (!parsed.success) {
    takeIssues(parsed.issues, path, faults);
    return Number.NaN;
  }
  const limit = parsed.output;
  if (kind === 'share' && typeof limit === 'number' && (limit < 0 || limit > 1)) {
    faults.add(path, 'must be a share from 0 to 1');
  }
  return limit;
}

/** A higher severity must be harder to reach, or the lower could never show. */
function checkLevels(
  levels: readonly Level[],
  direction: 'above' | 'below',
  at: Path,
  faults: YamlFaults,
): void {
  for (let i = 1; i < levels.length; i++) {
    const lower = levels[i - 1]!;
    const higher = levels[i]!;
    if (lower.severity === higher.severity) faults.add(at, 'a severity is there twice');
    if (typeof lower.limit !== 'number' || typeof higher.limit !== 'number') continue;
    const ordered = direction === 'above' ? higher.limit > lower.limit : higher.limit < lower.limit;
    if (!ordered) faults.add(at, `a higher severity must lie further ${direction}`);
  }
}

/** Undefined where there is none, or none that is right: its fault is the schema's. */
function readFor(raw: unknown): number | undefined {
  const parsed = v.safeParse(duration, raw);
  return parsed.success ? parsed.output : undefined;
}
