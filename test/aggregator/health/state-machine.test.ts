import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthStateMachine } from '../../../aggregator/health/state-machine.ts';

const { HEALTHY, DEGRADED, CRITICAL } = HealthState;
const HOUR_S = 3600;

/** The states after each [score, seconds for which it is given once a second]. */
function statesOf(...spans: readonly (readonly [score: number, seconds: number])[]): HealthState[] {
  const machine = new HealthStateMachine();
  let nowMs = 0;
  return spans.map(([score, seconds]) => {
    for (let s = 0; s < seconds; s++, nowMs += 1000) machine.step(score, nowMs);
    return machine.state;
  });
}

describe('the health state', () => {
  it('is decided by the first score', () => {
    expect(statesOf([100, 1])).toEqual([HEALTHY]);
    expect(statesOf([70, 1])).toEqual([DEGRADED]);
    expect(statesOf([40, 1])).toEqual([CRITICAL]);
  });

  it('is degraded after a minute and a half, not at a short dip', () => {
    expect(statesOf([100, 10], [70, 80], [100, 10], [70, 80], [70, 11])).toEqual([
      HEALTHY,
      HEALTHY,
      HEALTHY,
      HEALTHY,
      DEGRADED,
    ]);
  });

  it('is critical at once at 30 or below: a GPU off the bus is drained now', () => {
    expect(statesOf([100, 10], [10, 1])).toEqual([HEALTHY, CRITICAL]);
  });

  it('is critical after a minute below 50', () => {
    expect(statesOf([100, 10], [45, 60], [45, 1])).toEqual([HEALTHY, HEALTHY, CRITICAL]);
  });

  it('heals slowly: half an hour from degraded, two hours from critical', () => {
    expect(statesOf([70, 1], [100, 1800], [100, 1])).toEqual([DEGRADED, DEGRADED, HEALTHY]);
    expect(statesOf([10, 1], [100, 2 * HOUR_S], [100, 1])).toEqual([CRITICAL, CRITICAL, DEGRADED]);
  });

  it('does not chatter for a score that swings between 79 and 87', () => {
    const machine = new HealthStateMachine();
    let changes = 0;
    let before: HealthState = HEALTHY;
    for (let s = 0; s < 4 * HOUR_S; s++) {
      machine.step(s % 7 === 0 ? 87 : 79, s * 1000);
      if (machine.state !== before) changes++;
      before = machine.state;
    }
    expect(changes).toBeLessThanOrEqual(1);
  });
});
