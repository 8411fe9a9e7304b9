import { describe, expect, it } from 'vitest';
import { MAX_ANOMALY_CONTRIBUTIONS } from '../../../../aggregator/health/detect/anomaly.ts';
import { IncidentTracker } from '../../../../aggregator/health/detect/incident-tracker.ts';

const subject = (uuid: string) => ({
  source: { cluster: 'c', node: 'n', externalLabels: [] },
  gpu: '0',
  uuid,
  model: 'H100',
});
const finding = (strength: number, signal = 'gpu_power_watts') =>
  ({ detector: 'level', signal, value: 1, expected: 2, strength }) as const;
const QUIET_MS = 900_000;

describe('incidents', () => {
  it('are told of once at the begin, when news joins or they grow by half, and at the end', () => {
    const tracker = new IncidentTracker({ quietMs: QUIET_MS });
    const told: string[] = [];
    tracker.subscribe((_, phase) => void told.push(phase));
    for (let i = 0; i < 100; i++) tracker.add(subject('A'), finding(1 + i / 100), i, i);
    tracker.add(subject('A'), finding(1, 'gpu_clock_hertz'), 100, 100);
    tracker.advance(100 + QUIET_MS);
    expect(told).toEqual(['begin', 'change', 'change', 'end']);
  });

  it('keep a test apart from what is real, so that neither hides the other', () => {
    const tracker = new IncidentTracker({ quietMs: QUIET_MS });
    tracker.add(subject('A'), finding(2), 0, 0, true);
    expect(tracker.isOpen('A')).toBe(false);
    tracker.add(subject('A'), finding(2), 0, 0);
    expect([...tracker.anomaliesOf('A')].map(({ test }) => test)).toEqual([true, false]);
  });

  it('do not begin again for what has just ended, unless it is stronger', () => {
    const tracker = new IncidentTracker({ quietMs: QUIET_MS });
    tracker.add(subject('A'), finding(3), 0, 0);
    tracker.advance(QUIET_MS);
    tracker.add(subject('A'), finding(2), QUIET_MS + 1, QUIET_MS + 1);
    expect(tracker.open).toBe(0);
    tracker.add(subject('A'), finding(4), QUIET_MS + 2, QUIET_MS + 2);
    expect(tracker.open).toBe(1);
  });

  it('are limited: open ones, ended ones, contributions', () => {
    const tracker = new IncidentTracker({ quietMs: QUIET_MS, maxOpen: 2, maxEnded: 1 });
    for (let i = 0; i < 20; i++) tracker.add(subject('A'), finding(1 + i, `gpu_${i}`), 0, 0);
    expect([...tracker.anomalies()][0]?.contributions).toHaveLength(MAX_ANOMALY_CONTRIBUTIONS);
    expect(tracker.add(subject('B'), finding(2), 0, 0)).toBe(true);
    expect(tracker.add(subject('C'), finding(2), 0, 0)).toBe(false);
    tracker.advance(QUIET_MS);
    expect([...tracker.anomalies()]).toHaveLength(1);
  });
});
