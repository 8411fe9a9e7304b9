import { describe, expect, test } from 'vitest';
import { MAX_TREND_POINTS, timeToThreshold, trendOf } from '../../../../aggregator/health/patterns/trend.ts';
import { seededRandom } from '../../../support/random.ts';

const days = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

describe('a falling temperature margin', () => {
  // biome-ignore format: one series
  const margin = [12.0, 11.6, 11.9, 11.2, 11.4, 10.8, 10.9, 10.1, 10.6, 9.9, 9.7, 10.0, 9.2, 9.5, 8.8, 8.9, 8.4, 8.6, 8.1, 7.7];

  // Lost without it: the rate, its interval, and whether it is real. Values by scipy.stats.theilslopes; S and its variance (950) by hand.
  test('has the slope, interval and p of scipy', () => {
    const trend = trendOf(days(20), margin, 20)!;
    expect(trend.slope).toBeCloseTo(-0.21818181818181814, 12);
    expect(trend.slopeLow).toBeCloseTo(-0.2333333333333334, 12);
    expect(trend.slopeHigh).toBeCloseTo(-0.2, 12);
    expect(trend.pValue / 2.890011482752183e-8).toBeCloseTo(1, 5);
    expect(trend.level).toBeCloseTo(11.945454545454545 - 19 * 0.21818181818181814, 12);
  });

  test('reaches the threshold after level / slope days, with an interval around it', () => {
    const trend = trendOf(days(20), margin, 20)!;
    const time = timeToThreshold(trend, 0, 'falling')!;
    expect(time.days).toBeCloseTo(trend.level / -trend.slope, 10);
    expect(time.earliest).toBeLessThan(time.days);
    expect(time.latest).toBeGreaterThan(time.days);
    expect(timeToThreshold(trend, 0, 'rising')).toBeUndefined();
    expect(timeToThreshold(trend, 0, 'falling', 10)).toBeUndefined();
    expect(timeToThreshold(trend, 20, 'falling')).toMatchObject({ days: 0 });
  });
});

describe('no trend is', () => {
  // Lost without it: a board that was remapped once is "degrading" for three months.
  test('one step in a constant series', () => {
    for (let step = 1; step < MAX_TREND_POINTS; step++) {
      const values = days(MAX_TREND_POINTS).map((day) => (day < step ? 0 : 1));
      expect(trendOf(days(MAX_TREND_POINTS), values, MAX_TREND_POINTS)).toBeUndefined();
    }
  });

  test('a constant series, a short one, or one that is longer than there is room', () => {
    expect(trendOf(days(60), days(60).fill(3), 60)).toBeUndefined();
    expect(trendOf(days(13), days(13), 13)).toBeUndefined();
    expect(trendOf(days(91), days(91), 91)).toBeUndefined();
  });

  // Lost without it: a fleet of 100,000 steady GPUs shows hundreds of trends that are none.
  test.each([0, 0.6])('noise whose neighbours are alike by %d: at most 3 of 1,000 at p 0.001', (alike) => {
    const random = seededRandom(11);
    let found = 0;
    for (let series = 0; series < 1000; series++) {
      let noise = gaussian(random);
      const values = days(60).map(() => {
        noise = alike * noise + Math.sqrt(1 - alike * alike) * gaussian(random);
        return 20 + noise;
      });
      if (trendOf(days(60), values, 60)) found++;
    }
    expect(found).toBeLessThanOrEqual(3);
  });
});

// Lost without it: "in 20 to 30 days" is a guess with figures.
test('the interval holds the true day in at least 93 of 100 cases', () => {
  const random = seededRandom(5);
  let said = 0;
  let held = 0;
  for (let series = 0; series < 500; series++) {
    const values = days(45).map((day) => 20 - 0.2 * day + gaussian(random));
    const trend = trendOf(days(45), values, 45);
    const time = trend && timeToThreshold(trend, 0, 'falling', 365);
    if (!time) continue;
    said++;
    const truth = (20 - 0.2 * 44) / 0.2;
    if (time.earliest <= truth && truth <= time.latest) held++;
  }
  expect(said).toBeGreaterThan(495);
  expect(held / said).toBeGreaterThanOrEqual(0.93);
});

test('days that are missing do not bend the line', () => {
  const at = days(60).filter((day) => day % 7 < 5);
  const trend = trendOf(
    at,
    at.map((day) => 3 + 0.5 * day),
    at.length,
  )!;
  expect(trend.slope).toBeCloseTo(0.5, 10);
  expect(trend.level).toBeCloseTo(3 + 0.5 * at.at(-1)!, 10);
});
