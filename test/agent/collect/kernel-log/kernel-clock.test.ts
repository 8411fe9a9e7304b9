import { describe, expect, test } from 'vitest';
import { KernelClock } from '../../../../agent/collect/kernel-log/kernel-clock.ts';

function stand() {
  const at = { wall: 1_000_000_000, monotonic: 77 };
  const time = new KernelClock({ now: () => at.wall, monotonic: () => at.monotonic }, 500_000);
  const pass = (ms: number): void => {
    at.wall += ms;
    at.monotonic += ms;
  };
  return { at, time, pass };
}

describe('the time of a line', () => {
  test('is that much before now as its stamp is', () => {
    const { time } = stand();
    expect(time.wallMs(400_000_000)).toBe(1_000_000_000 - 100_000);
  });

  // Lost without it: after a hundred days every Xid is minutes off, and joins the wrong job.
  test('is corrected for the drift that a live line shows', () => {
    const { at, time, pass } = stand();
    time.drained();
    pass(250);
    // The kernel's clock lags by a minute.
    time.saw(440_100_000);
    expect(Math.abs(time.wallMs(440_100_000) - at.wall)).toBeLessThanOrEqual(250 + 20);
  });

  test('is not corrected by lines that waited', () => {
    const { time } = stand();
    time.behind();
    time.saw(1_000_000);
    expect(time.driftMs).toBe(0);
  });

  test('is never after now', () => {
    const { at, time } = stand();
    expect(time.wallMs(900_000_000)).toBe(at.wall);
    time.saw(900_000_000);
    expect(time.bootMs(900_000_000)).toBeLessThanOrEqual(500_020);
  });
});
