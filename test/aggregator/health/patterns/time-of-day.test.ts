import { describe, expect, test } from 'vitest';
import type { PatternEvent } from '../../../../aggregator/health/patterns/event-journal.ts';
import {
  clockWords,
  eventRhythm,
  figureRhythm,
  rayleigh,
} from '../../../../aggregator/health/patterns/time-of-day.ts';
import { atOnce } from '../../../../aggregator/health/work.ts';
import { seededRandom } from '../../../support/random.ts';

const DAY = 86_400_000;
const HOUR = 3_600_000;
const FIRST = 20_000 * DAY;

const at = (day: number, hour: number, gpu = 0): PatternEvent => ({
  ms: FIRST + day * DAY + hour * HOUR,
  cluster: 'prod',
  node: `n${gpu >> 3}`,
  gpu: `GPU-${gpu}`,
  code: 'xid 79',
});

describe('events', () => {
  test('that come around 14:00 most days are found, with the hour', () => {
    const random = seededRandom(2);
    const events = Array.from({ length: 60 }, (_, i) =>
      at(i % 30, i % 5 === 0 ? random() * 24 : 13 + random() * 2, i),
    );
    const rhythm = atOnce(eventRhythm(events))!;
    expect(rhythm.hour).toBeGreaterThan(13);
    expect(rhythm.hour).toBeLessThan(15);
    expect(rhythm.strength).toBeGreaterThan(0.6);
    expect(rhythm.days).toBe(30);
  });

  // Lost without it: one bad afternoon, a thousand events, becomes a law about afternoons.
  test('of one bad day are one day', () => {
    const random = seededRandom(4);
    const events = Array.from({ length: 1000 }, (_, i) => at(3, 14, i));
    for (let day = 0; day < 30; day++) if (day !== 3) events.push(at(day, random() * 24));
    expect(atOnce(eventRhythm(events))).toBeUndefined();
  });

  test('around midnight have their mean at midnight, not at noon', () => {
    const events = Array.from({ length: 40 }, (_, i) =>
      at(i, i % 2 === 0 ? 23.5 - (i % 3) / 10 : 0.5 + (i % 5) / 10),
    );
    const { hour } = atOnce(eventRhythm(events))!;
    expect(Math.min(hour, 24 - hour)).toBeLessThan(0.5);
  });

  test('at any hour have none: at most 3 of 1,000 at p 0.001', () => {
    const random = seededRandom(6);
    let found = 0;
    for (let i = 0; i < 1000; i++)
      if (atOnce(eventRhythm(Array.from({ length: 90 }, (_, k) => at(k % 45, random() * 24, k))))) found++;
    expect(found).toBeLessThanOrEqual(3);
  });

  test('at exactly the same minute each day are a rhythm although they do not vary', () => {
    expect(atOnce(eventRhythm(Array.from({ length: 20 }, (_, day) => at(day, 3))))).toMatchObject({
      days: 20,
    });
  });

  test('of less than two weeks say nothing', () => {
    expect(atOnce(eventRhythm(Array.from({ length: 13 }, (_, day) => at(day, 3))))).toBeUndefined();
  });
});

describe('figures of a room', () => {
  const inlet = (days: number, swing: number, peak: number, noise: () => number): number[] =>
    Array.from(
      { length: days * 24 },
      (_, h) => 22 + swing * Math.cos((2 * Math.PI * ((h % 24) + 0.5 - peak)) / 24) + noise(),
    );

  test('that swing are found with amplitude and hour, also with hours missing', () => {
    const random = seededRandom(8);
    const values = inlet(28, 2, 16, () => random() - 0.5);
    values[5] = Number.NaN;
    for (let h = 48; h < 60; h++) values[h] = Number.NaN;
    const rhythm = figureRhythm(values, 1)!;
    expect(rhythm.hour).toBeCloseTo(16, 0);
    expect(rhythm.strength).toBeCloseTo(2, 0);
    expect(rhythm.days).toBe(27);
  });

  test('that swing less than matters, or differently each day, are not', () => {
    const random = seededRandom(9);
    expect(
      figureRhythm(
        inlet(28, 0.3, 16, () => random() - 0.5),
        1,
      ),
    ).toBeUndefined();
    expect(
      figureRhythm(
        inlet(28, 0, 16, () => 10 * (random() - 0.5)),
        1,
      ),
    ).toBeUndefined();
  });
});

// Zar, Biostatistical Analysis: z = n r² = 3.0 with n = 20 is p 0.048.
test("Rayleigh's p, and hours in words", () => {
  expect(rayleigh(20, Math.sqrt(3 / 20))).toBeCloseTo(0.0477, 3);
  expect(rayleigh(100, 0)).toBe(1);
  expect([0, 13.99, 14.6, 23.9].map(clockWords)).toEqual(['00:00', '14:00', '14:30', '00:00']);
});
