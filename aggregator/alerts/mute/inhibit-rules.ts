import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { parse } from 'yaml';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type CompiledMatcher, compileMatcher, parseMatcher } from './matchers.ts';

/** While a source fires, targets with the same `equal` labels are held back. */
export interface InhibitRule {
  readonly source: readonly CompiledMatcher[];
  readonly target: readonly CompiledMatcher[];
  readonly equal: readonly string[];
}

/** Where in a list of rules, and what is wrong there. */
type InhibitFault = (path: readonly (string | number)[], message: string) => void;

const SHIPPED = new URL('./default-inhibitions.yaml', import.meta.url);
/** Each is asked of each transition. */
const MAX_RULES = 200;

const texts = v.array(v.string('must be a text'), 'must be a list');
const RULE = v.strictObject({
  name: v.optional(v.string('must be a text')),
  source_matchers: v.pipe(texts, v.minLength(1, 'must have at least one matcher')),
  target_matchers: v.pipe(texts, v.minLength(1, 'must have at least one matcher')),
  equal: v.optional(texts, []),
});

/** Reads rules as Alertmanager writes them; those with a fault are told of and left out. */
export function readInhibitRules(content: readonly unknown[], fault: InhibitFault): InhibitRule[] {
  if (content.length > MAX_RULES) fault([], `must have at most ${MAX_RULES} rules`);
  const rules: InhibitRule[] = [];
  for (const [index, value] of content.slice(0, MAX_RULES).entries()) {
    const parsed = v.safeParse(RULE, value);
    if (!parsed.success) {
      for (const issue of parsed.issues)
        fault([index, ...(issue.path ?? []).map((item) => item.key as string | number)], issue.message);
      continue;
    }
    const { source_matchers, target_matchers, equal } = parsed.output;
    const source = readMatchers(source_matchers, [index, 'source_matchers'], fault);
    const target = readMatchers(target_matchers, [index, 'target_matchers'], fault);
    if (source && target) rules.push({ source, target, equal });
  }
  return rules;
}

/** The rules that gpufleet ships with. */
export async function shippedInhibitRules(): Promise<InhibitRule[]> {
  const { inhibit_rules } = parse(await readFile(SHIPPED, 'utf8')) as { inhibit_rules: unknown[] };
  return readInhibitRules(inhibit_rules, (path, message) => {
    throw new FleetError(
      'invalid_config',
      `Cannot read default-inhibitions.yaml: ${path.join('.')}: ${message}`,
    );
  });
}

function readMatchers(
  written: readonly string[],
  path: readonly (string | number)[],
  fault: InhibitFault,
): CompiledMatcher[] | undefined {
  const matchers: CompiledMatcher[] = [];
  for (const [index, text] of written.entries()) {
    try {
      matchers.push(compileMatcher(parseMatcher(text)));
    } catch (thrown) {
      fault([...path, index], describeError(thrown));
    }
  }
  return matchers.length === written.length ? matchers : undefined;
}
