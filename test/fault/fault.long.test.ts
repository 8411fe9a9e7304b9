import { describe, expect, test } from 'vitest';
import { startProgram } from '../support/process.ts';
import { hasNatsServer, hasVictoriaMetrics } from '../support/servers.ts';

describe.skipIf(!hasVictoriaMetrics() || !hasNatsServer())('the oracle', () => {
  // Lost without it: samples, and nobody would know which, nor after what.
  test('twenty minutes of every fault: each sample is stored once or in the ledger', {
    timeout: 1_800_000,
  }, async () => {
    await using run = await startProgram('test/fault/main.ts', { args: ['--minutes', '20', '--seed', '2'] });
    const { status } = await run.exited;
    expect(status, run.output).toBe(0);
  });
});
