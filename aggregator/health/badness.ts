/**
 * Four values at which a signal is fine, worth a warning, critical, and failed. Rising or falling; neighbours may be
 * equal, which makes a step.
 */
export type Breakpoints = readonly [good: number, warning: number, critical: number, failed: number];

const BADNESS = [0, 0.3, 0.7, 1] as const;

/** 0 (fine) to 1 (failed), piecewise linear between the breakpoints: monotone by construction. */
export function badness(value: number, points: Breakpoints): number {
  const sign = points[3] >= points[0] ? 1 : -1;
  const x = value * sign;
  if (x <= points[0] * sign) return 0;
  if (x >= points[3] * sign) return 1;
  for (let i = 2; i >= 0; i--) {
    const from = points[i as 0 | 1 | 2] * sign;
    if (x < from) continue;
    const to = points[(i + 1) as 1 | 2 | 3] * sign;
    return BADNESS[i]! + ((x - from) / (to - from)) * (BADNESS[i + 1]! - BADNESS[i]!);
  }
  return 0;
}
