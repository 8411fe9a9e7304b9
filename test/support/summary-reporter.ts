import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';
import { ROOT } from './data.ts';

/**
 * Ends a run with one plain line, `tests: N passed, N failed, N skipped`, and leaves it in .cache/test-summary.
 * A file that could not be loaded and an error outside any test count as a failure each.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const count = { passed: 0, failed: errors.length, skipped: 0 };
    for (const module of modules) {
      let failedTests = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') count.passed++;
        else if (state === 'skipped') count.skipped++;
        // A test that was still pending when the run ended did not pass.
        else failedTests++;
      }
      count.failed += failedTests > 0 || module.state() !== 'failed' ? failedTests : 1;
    }
    const line = `tests: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`;
    mkdirSync(join(ROOT, '.cache'), { recursive: true });
    writeFileSync(join(ROOT, '.cache', 'test-summary'), `${line}\n`);
    process.stdout.write(`\n${line}\n`);
  }
}
