import { expect, test } from 'vitest';
import { LocatedYaml } from '../../../../aggregator/alerts/files/located-yaml.ts';
import { isWithin, type TimeSpec } from '../../../../aggregator/alerts/files/time-interval.ts';
import { readTimeIntervals } from '../../../../aggregator/alerts/files/time-interval-file.ts';

function read(text: string): readonly TimeSpec[] {
  const yaml = new LocatedYaml(`time_intervals:\n- name: one\n  time_intervals: ${text}\n`, 'notify.yaml');
  const found = readTimeIntervals((yaml.content as { time_intervals: unknown[] }).time_intervals, yaml);
  yaml.check('notifications');
  return found.get('one')!;
}

// Who is off duty is woken, or nobody is, where a time is read wrongly.
test.each([
  [
    '[{ weekdays: ["monday:friday"], times: [{ start_time: "09:00", end_time: "17:00" }] }]',
    '2026-11-20T09:00Z',
    true,
  ],
  [
    '[{ weekdays: ["monday:friday"], times: [{ start_time: "09:00", end_time: "17:00" }] }]',
    '2026-11-20T17:00Z',
    false,
  ],
  ['[{ weekdays: ["monday:friday"] }]', '2026-11-21T12:00Z', false],
  ['[{ weekdays: [saturday, sunday] }]', '2026-11-21T12:00Z', true],
  ['[{ times: [{ start_time: "22:00", end_time: "24:00" }] }]', '2026-11-21T23:59Z', true],
  ['[{ days_of_month: ["-3:-1"] }]', '2026-02-26T00:00Z', true],
  ['[{ days_of_month: ["-3:-1"] }]', '2026-02-25T00:00Z', false],
  ['[{ days_of_month: ["31"] }]', '2026-02-28T00:00Z', false],
  ['[{ days_of_month: [1] }]', '2026-02-01T00:00Z', true],
  ['[{ months: ["december:december", "1:2"] }]', '2026-02-01T00:00Z', true],
  ['[{ months: [march] }]', '2026-02-01T00:00Z', false],
  ['[{ years: ["2025:2026"] }]', '2026-02-01T00:00Z', true],
  ['[{ years: [2027] }]', '2026-02-01T00:00Z', false],
  // Half past midnight in summer: the day before at UTC.
  ['[{ location: Europe/Berlin, weekdays: [sunday] }]', '2026-07-04T22:30Z', true],
  [
    '[{ location: Europe/Berlin, times: [{ start_time: "09:00", end_time: "10:00" }] }]',
    '2026-07-04T07:30Z',
    true,
  ],
  [
    '[{ location: Europe/Berlin, times: [{ start_time: "09:00", end_time: "10:00" }] }]',
    '2026-12-04T07:30Z',
    false,
  ],
])('%s at %s: %s', (text, at, within) => {
  expect(isWithin(read(text), Date.parse(at))).toBe(within);
});

test.each([
  [
    '[{ weekdays: [freitag] }]',
    '3:33: time_intervals[0].time_intervals[0].weekdays[0]: "freitag" is no range of weekdays',
  ],
  ['[{ weekdays: ["friday:monday"] }]', 'weekdays[0]'],
  ['[{ days_of_month: ["1:-1"] }]', 'days_of_month[0]'],
  ['[{ months: [13] }]', 'months[0]'],
  ['[{ location: Mars/Olympus }]', 'location'],
  ['[{ times: [{ start_time: "17:00", end_time: "09:00" }] }]', 'times[0]'],
  ['[{ times: [{ start_time: "25:00", end_time: "26:00" }] }]', 'times[0]'],
])('%s is refused', (text, fault) => {
  expect(() => read(text)).toThrow(fault);
});
