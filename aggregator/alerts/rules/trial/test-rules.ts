import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { parseRuleTexts, type RulesText } from '../rules-file.ts';
import { runTrial } from './run-trial.ts';
import { readTrialFile } from './trial-file.ts';

/** The rules that ship. */
const SHIPPED = new URL('../default-rules.yaml', import.meta.url);

export interface TrialResult {
  readonly name: string;
  /** What is not as expected; empty for a test that passed. */
  readonly differences: readonly string[];
}

/** Runs the tests of one file. Throws `invalid_input` or `invalid_config` where it or its rules cannot be read. */
export async function testRules(path: string): Promise<TrialResult[]> {
  const file = readTrialFile(await textOf(path), path);
  const texts: RulesText[] = [];
  for (const name of file.ruleFiles) {
    const from = name === 'default' ? SHIPPED : resolve(dirname(path), name);
    texts.push({ text: await textOf(from), source: name });
  }
  const { rules } = parseRuleTexts(texts, file.ruleFiles.join(', '));
  return file.trials.map((trial) => ({ name: trial.name, differences: runTrial(trial, rules) }));
}

async function textOf(path: string | URL): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new FleetError('invalid_input', `Cannot read ${path}: ${code}`, { cause: error });
  }
}
