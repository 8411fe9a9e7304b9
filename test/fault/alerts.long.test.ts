import { describe, expect, test } from 'vitest';
import { hasNatsServer } from '../support/servers.ts';
import { runAlertScript } from './alert-script.ts';

describe.skipIf(!hasNatsServer())('alerts, exactly once', () => {
  // Lost without it: an alert that nobody heard, or a pager that rings twice for one fault.
  test('1,000 transitions, and kill -9 of NATS, aggregator and agents by dice: the stream has the script', {
    timeout: 900_000,
  }, async ({ annotate }) => {
    const { expected, recorded, kills, longestOutageMs, transitions } = await runAlertScript({
      seed: 2,
      nodes: 4,
      gpus: 36,
      spells: 3,
    });
    await annotate(
      `${transitions} transitions, kills ${JSON.stringify(kills)}, longest outage ${Math.round(longestOutageMs)} ms`,
    );
    expect(recorded).toEqual(expected);
    expect(transitions).toBeGreaterThanOrEqual(1_000);
    for (const count of Object.values(kills)) expect(count).toBeGreaterThanOrEqual(5);
  });
});
