import { describe, expect, test } from 'vitest';
import {
  BURST_MS,
  MAX_STORMS,
  MAX_WINDOWS,
  Storms,
  WINDOW_MS,
} from '../../../../agent/collect/kernel-log/storms.ts';

/** Gives lines at the times, in order; what is told at once and what is summarised. */
function play(
  times: readonly number[],
  until: number,
  kind = 'xid|94',
): { at: number[]; summaries: number[] } {
  const storms = new Storms<string>();
  const at: number[] = [];
  const summaries: number[] = [];
  const due = (ms: number): void => {
    for (const { held } of storms.due(ms)) summaries.push(held);
  };
  for (const ms of times) {
    due(ms);
    if (storms.add(kind, 'event', ms, ms)) at.push(ms);
  }
  due(until);
  return { at, summaries };
}

describe('the same line again and again', () => {
  // Lost without it: one fault is nine incidents, or a storm of 629 lines is 629 alerts.
  test('within five seconds is one event and a summary', () => {
    expect(play([0, 10, 20, WINDOW_MS], WINDOW_MS + 1)).toEqual({ at: [0], summaries: [3] });
  });

  test('once is one event and no summary', () => {
    expect(play([0], BURST_MS * 2)).toEqual({ at: [0], summaries: [] });
  });

  test('for minutes is three windows and one summary of the rest', () => {
    const times = Array.from({ length: 170 }, (_, second) => second * 1000);
    const { at, summaries } = play(times, BURST_MS + 1);
    expect(at).toHaveLength(MAX_WINDOWS);
    expect(summaries).toHaveLength(MAX_WINDOWS);
    expect(at.length + summaries.reduce((sum, held) => sum + held, 0)).toBe(170);
  });

  test('after the burst is news', () => {
    expect(play([0, BURST_MS + 1], BURST_MS * 3).at).toEqual([0, BURST_MS + 1]);
  });
});

// Lost without it: a flood of many kinds of lines eats the memory, or lines vanish.
test('more kinds than there is room for are summarised together, and all are counted', () => {
  const storms = new Storms<string>();
  let told = 0;
  for (let i = 0; i < MAX_STORMS * 2; i++) if (storms.add(`kind ${i}`, 'event', 0, 0)) told++;
  expect(storms.all.length).toBeLessThanOrEqual(MAX_STORMS + 1);
  expect(told + storms.flush().reduce((sum, { held }) => sum + held, 0)).toBe(MAX_STORMS * 2);
});

// Lost without it: what was held back when the agent stopped is never told.
test('what is held back outlives a restart', () => {
  const before = new Storms<string>();
  before.add('a', 'event', 0, 0);
  before.add('a', 'event', 1, 1);
  const after = new Storms<string>();
  after.restore(JSON.parse(JSON.stringify(before.all)));
  expect(after.due(WINDOW_MS + 1)).toMatchObject([{ key: 'a', held: 1, event: 'event' }]);
  expect(after.add('a', 'event', 100_000, 100_000)).toBe(true);
});
