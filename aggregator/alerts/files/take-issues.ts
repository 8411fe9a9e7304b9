import type * as v from 'valibot';
import type { Path, YamlFaults } from './yaml-faults.ts';

/** Notes what a schema found wrong with the value at `at`. */
export function takeIssues(issues: readonly v.BaseIssue<unknown>[], at: Path, faults: YamlFaults): void {
  for (const issue of issues) {
    const path = [...at];
    let key = issue.expected === 'never';
    for (const item of issue.path ?? []) {
      path.push(typeof item.key === 'number' ? item.key : String(item.key));
      key ||= item.origin === 'key' && issue.type !== 'strict_object';
    }
    faults.add(path, issue.message, { key });
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
