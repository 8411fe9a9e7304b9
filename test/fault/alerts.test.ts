import { describe, expect, test } from 'vitest';
import { hasNatsServer } from '../support/servers.ts';
import { runAlertScript } from './alert-script.ts';

describe.skipIf(!hasNatsServer())('alerts, exactly once', () => {
  // Lost without it: an alert that nobody heard, or a pager that rings twice for one fault.
  test('a script of conditions, and kill -9 of NATS, aggregator and agents by dice: the stream has the script', {
    timeout: 180_000,
  }, async () => {
    const { expected, recorded, kills, transitions } = await runAlertScript({
      seed: 1,
      nodes: 2,
      gpus: 16,
      spells: 1,
    });
    expect(recorded).toEqual(expected);
    expect(transitions).toBe(2 * 16 * 3);
    expect(Object.values(kills).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0);
  });
});
