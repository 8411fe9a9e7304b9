import { describe, expect, it } from 'vitest';
import {
  MAX_TRANSITION_CONTRIBUTIONS,
  transitionEntry,
} from '../../../../aggregator/health/states/transition.ts';
import { transition } from './entries.ts';

const SUBJECT = { cluster: 'east', node: 'n0', gpu: '0', uuid: 'GPU-0', model: 'H100' };

describe('an entry of the transition log', () => {
  it('keeps what cost most points, so that a year later the why is still there', () => {
    const contributions = Array.from({ length: 20 }, (_, i) => ({
      signal: `signal-${i}`,
      points: 20 - i,
      explanation: 'a long sentence that is not kept',
    }));
    const kept = transitionEntry(
      transition(),
      { ...SUBJECT, extra: 'no' } as typeof SUBJECT,
      contributions,
      true,
    );
    expect(kept.contributions).toHaveLength(MAX_TRANSITION_CONTRIBUTIONS);
    expect(kept.contributions[0]).toEqual({ signal: 'signal-0', points: 20 });
    expect(kept).toMatchObject({ uuid: 'GPU-0', suppressed: true, why: transition().why, score: 70 });
    expect(kept).not.toHaveProperty('extra');
  });

  it('has no score where there was none: JSON knows no NaN', () => {
    const kept = transitionEntry(transition({ score: Number.NaN }), SUBJECT, [], false);
    expect(kept.score).toBeUndefined();
    expect(JSON.parse(JSON.stringify(kept))).not.toHaveProperty('score');
  });
});
