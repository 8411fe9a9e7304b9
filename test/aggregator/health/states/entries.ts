import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { Transition, TransitionEntry } from '../../../../aggregator/health/states/transition.ts';
import { transitionEntry } from '../../../../aggregator/health/states/transition.ts';
import { START_MS } from '../../alerts/block-of.ts';

export function transition(more: Partial<Transition> = {}): Transition {
  return {
    from: HealthState.HEALTHY,
    to: HealthState.DEGRADED,
    atMs: START_MS,
    flapping: false,
    cause: 'score',
    why: 'the score 70 has been below 80 for 90 s',
    score: 70,
    by: '',
    ...more,
  };
}

/** An entry of GPU-0 on node n0 of east, but for what is given. */
export function entry(more: Partial<TransitionEntry> = {}): TransitionEntry {
  const subject = { cluster: 'east', node: 'n0', gpu: '0', uuid: 'GPU-0', model: 'H100' };
  const contributions = [{ signal: 'gpu_temperature_margin_celsius', points: 30 }];
  return { ...transitionEntry(transition(), subject, contributions, false), ...more };
}
