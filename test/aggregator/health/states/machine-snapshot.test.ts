import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthStateMachine } from '../../../../aggregator/health/state-machine.ts';
import { isMachineSnapshot } from '../../../../aggregator/health/states/machine-snapshot.ts';
import { seededRandom } from '../../../support/random.ts';

describe('a snapshot read from disk', () => {
  it('is taken where a machine gave it, in whatever state', () => {
    const random = seededRandom(5);
    const machine = new HealthStateMachine();
    const states = new Set<HealthState>();
    let nowMs = 0;
    for (let i = 0; i < 2000; i++) {
      const score = random() < 0.5 ? 95 : random() * 100;
      const held = { score, cap: random() < 0.05 ? 10 : undefined, confidence: 1, fresh: random() < 0.9 };
      for (let left = random() ** 3 * 200; left > 0; left--) {
        nowMs += 60_000;
        machine.step(held, nowMs);
      }
      if (random() < 0.1) machine.clear('repair', nowMs, 'ada');
      states.add(machine.state);
      expect(isMachineSnapshot(JSON.parse(JSON.stringify(machine.snapshot())))).toBe(true);
    }
    expect(states.size).toBeGreaterThanOrEqual(4);
  });

  it.each([
    null,
    'healthy',
    [[]],
    {},
    { state: 'HEALTHY' },
    { state: 17 },
    { state: HealthState.FLAPPING },
    { state: 1, better: 'long' },
    { state: 1, better: -5 },
    { state: 1, belowCritical: null },
    { state: 1, pinnedUntilMs: '2026' },
    { state: 1, changesMs: [1, 2, 3, 4, 5] },
    { state: 1, changesMs: ['a'] },
    { state: 3, owesClearing: 'yes' },
    { state: 3, clearing: { cause: 'prayer', by: 'ada' } },
    { state: 3, clearing: { cause: 'repair' } },
  ])('is left out where it is broken, or one bad byte would stop the start: %j', (value) => {
    expect(isMachineSnapshot(value)).toBe(false);
  });
});
