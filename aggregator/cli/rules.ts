import { readFile, writeFile } from 'node:fs/promises';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { importRules } from '../alerts/rules/import/import-rules.ts';
import { parseRules } from '../alerts/rules/rules-file.ts';
import { testRules } from '../alerts/rules/trial/test-rules.ts';
import { type Output, writeJson } from './output.ts';

export interface ImportOptions {
  readonly out?: string;
  readonly rest?: string;
}

/** Says of each rules file whether it can be used. Throws `invalid_input` with every fault where one cannot. */
export async function checkRules(output: Output, files: readonly string[]): Promise<void> {
  const faults: string[] = [];
  const good: { file: string; rules: number; disabled: readonly string[]; warnings: readonly string[] }[] =
    [];
  for (const file of files) {
    try {
      const { rules, disabled, warnings } = parseRules(await textOf(file), file);
      good.push({ file, rules: rules.length, disabled, warnings });
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      faults.push(error.message);
    }
  }
  if (output.json) writeJson(output, { files: good, faults });
  else {
    for (const { file, rules, disabled, warnings } of good) {
      const off = disabled.length === 0 ? '' : `, switched off: ${disabled.join(', ')}`;
      output.write(`${file}: ${rules} rules${off}\n`);
      for (const warning of warnings) output.write(`  warning: ${warning}\n`);
    }
  }
  if (faults.length > 0) throw new FleetError('invalid_input', faults.join('\n'));
}

/** Runs unit tests of rules. Throws `invalid_input` where one fails or cannot be read. */
export async function runRuleTests(output: Output, files: readonly string[]): Promise<void> {
  const results: { file: string; name: string; passed: boolean; differences: readonly string[] }[] = [];
  const unread: string[] = [];
  for (const file of files) {
    try {
      for (const { name, differences } of await testRules(file))
        results.push({ file, name, passed: differences.length === 0, differences });
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      unread.push(error.message);
    }
  }
  const failed = results.filter(({ passed }) => !passed);
  if (output.json) writeJson(output, { tests: results, faults: unread });
  else {
    for (const { file, name, differences } of failed) {
      output.write(`${file}: FAILED ${name}\n`);
      for (const line of differences) output.write(`  ${line}\n`);
    }
    output.write(`${results.length - failed.length} of ${results.length} tests passed\n`);
  }
  const told = [
    ...unread,
    ...(failed.length > 0 ? [`${failed.length} of ${results.length} tests failed`] : []),
  ];
  if (told.length > 0) throw new FleetError('invalid_input', told.join('\n'));
}

/** Translates a rules file of Prometheus. What is left goes to `rest` where that is given. */
export async function importPrometheusRules(
  output: Output,
  file: string,
  options: ImportOptions,
): Promise<void> {
  const { imported, rules, rest } = importRules(await textOf(file), file);
  if (options.out !== undefined) await write(options.out, rules);
  if (options.rest !== undefined && rest !== undefined) await write(options.rest, rest);
  const done = imported.filter((one) => one.rules.length > 0).length;
  if (output.json) {
    writeJson(output, { rules: imported, translated: done, left: imported.length - done });
    return;
  }
  // What was translated is the output, unless it went to a file; the report is comments then.
  const mark = options.out === undefined ? '# ' : '';
  for (const { group, name, rules: ours, notes } of imported) {
    const became = ours.length > 0 ? ours.join(', ') : 'not translated';
    output.write(`${mark}${group}/${name}: ${became}${notes.length > 0 ? ` (${notes.join('; ')})` : ''}\n`);
  }
  output.write(`${mark}${done} of ${imported.length} rules translated\n`);
  if (rest !== undefined && options.rest === undefined)
    output.write(`${mark}--rest FILE writes the others for vmalert, as they were\n`);
  if (options.out === undefined) output.write(rules);
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_input', `Cannot read ${file}: ${describeError(error)}`, { cause: error });
  }
}

async function write(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw new FleetError('invalid_input', `Cannot write ${file}: ${describeError(error)}`, { cause: error });
  }
}
