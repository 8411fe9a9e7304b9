import { readFile } from 'node:fs/promises';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { parseActionsFile } from './actions/actions-file.ts';
import { EXECUTOR_KINDS } from './actions/executors/registry.ts';
import type { AlertingOptions } from './alerting.ts';
import { parseNotifyFile } from './notify/notify-file.ts';
import { RECEIVER_KINDS } from './notify/receivers/registry.ts';
import { readRules } from './rules/rule-files.ts';

/**
 * Reads the files that alerting would open, and opens nothing. Resolves with what is wrong, a text for each file, and
 * every fault in it.
 */
export async function checkFiles({ rules, notify, actions }: AlertingOptions['files']): Promise<string[]> {
  const faults: string[] = [];
  const check = async (file: string | undefined, read: (file: string) => Promise<unknown>): Promise<void> => {
    if (file === undefined) return;
    try {
      await read(file);
    } catch (thrown) {
      // Whole: the sentence of `describeError` is cut.
      faults.push(
        thrown instanceof FleetError ? thrown.message : `Cannot read ${file}: ${describeError(thrown)}`,
      );
    }
  };
  await check(rules, readRules);
  await check(notify, async (file) => parseNotifyFile(await readFile(file, 'utf8'), file, RECEIVER_KINDS));
  await check(actions, async (file) => parseActionsFile(await readFile(file, 'utf8'), file, EXECUTOR_KINDS));
  return faults;
}
