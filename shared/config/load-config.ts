import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { parseDocument } from 'yaml';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';

/** A configuration file is no place for data. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** One thing that is wrong: where, and what to do. */
export interface Fault {
  readonly path: string;
  readonly message: string;
}

/** All faults of a configuration at once, one a line. */
export function configError(source: string, faults: readonly Fault[]): FleetError {
  const lines = faults.map(({ path, message }) => `  ${path}: ${message}`);
  return new FleetError(
    'invalid_config',
    `Cannot use ${source}: ${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}\n${lines.join('\n')}`,
  );
}

/** Reads a YAML file. Throws `invalid_config` where it cannot be read or is not YAML. */
export async function readYaml(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${path}`, { cause: error });
  }
  return parseYaml(text, path);
}

export function parseYaml(text: string, source: string): unknown {
  if (text.length > MAX_CONFIG_BYTES) {
    throw new FleetError(
      'invalid_config',
      `Cannot use ${source}: it is larger than ${MAX_CONFIG_BYTES} bytes`,
    );
  }
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) {
    throw configError(
      source,
      document.errors.map((error) => ({ path: 'yaml', message: error.message.split('\n')[0]! })),
    );
  }
  try {
    // Aliases are refused past a few: a small file must not become a large one.
    return document.toJS({ maxAliasCount: 10 }) ?? {};
  } catch (error) {
    throw configError(source, [{ path: 'yaml', message: describeError(error) }]);
  }
}

/** Every fault of `value` against `schema`, with its path; or what it parsed to. */
export function check<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
):
  | { readonly output: v.InferOutput<Schema>; readonly faults?: never }
  | { readonly faults: readonly Fault[]; readonly output?: never } {
  const result = v.safeParse(schema, value);
  if (result.success) return { output: result.output };
  return {
    faults: result.issues.map((issue) => ({
      path: v.getDotPath(issue) ?? '(top level)',
      message: issueText(issue),
    })),
  };
}

function issueText(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return 'there is no such setting';
  if (issue.type === 'strict_object' || issue.received === 'undefined') return 'it is missing';
  return issue.message;
}
