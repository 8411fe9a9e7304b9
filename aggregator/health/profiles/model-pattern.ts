import { LinearRegex } from '#shared/regex/linear-regex.ts';

/** Names of models are shorter; what an agent says beyond it is not looked at. */
const MAX_MODEL = 128;

/**
 * Whether an expression (RE2 syntax) is found anywhere in the name of a model, in any case. In linear time: profiles
 * are written by people, but the names come from agents. Throws `invalid_config`.
 */
export function modelPattern(expression: string): (model: string) => boolean {
  // By itself first: `a)(b` is none.
  new LinearRegex(expression);
  const pattern = new LinearRegex(`(?is:.*)(?i:${expression})(?is:.*)`);
  return (model) => pattern.match(model.slice(0, MAX_MODEL)) !== undefined;
}
