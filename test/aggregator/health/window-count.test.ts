import { describe, expect, it } from 'vitest';
import { WindowCount } from '../../../aggregator/health/window-count.ts';

const HOUR = 3_600_000;

describe('a count within a window', () => {
  it('keeps an event fully until it leaves: a cap that holds seven days must not fade', () => {
    const count = new WindowCount(24 * HOUR, 24);
    count.add(3, HOUR);
    expect(count.sum(24 * HOUR)).toBe(3);
    expect(count.sum(27 * HOUR)).toBe(0);
  });

  it('takes late events into their own time, and none that has left', () => {
    const count = new WindowCount(24 * HOUR, 24);
    count.add(1, 100 * HOUR);
    count.add(1, 90 * HOUR);
    count.add(1, 10 * HOUR);
    expect(count.sum(100 * HOUR)).toBe(2);
    expect(count.sum(115 * HOUR)).toBe(1);
  });

  it('can be kept and taken up again', () => {
    const count = new WindowCount(24 * HOUR, 24);
    for (const hour of [80, 81, 99]) count.add(hour, hour * HOUR);
    const again = new WindowCount(24 * HOUR, 24);
    for (const [atMs, events] of count.entries()) again.add(events, atMs);
    for (const hour of [99, 105, 106, 120, 200]) expect(again.sum(hour * HOUR)).toBe(count.sum(hour * HOUR));
  });
});
