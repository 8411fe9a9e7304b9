import { describe, expect, test } from 'vitest';
import { isCriticalXid, xidNamed } from '#shared/catalogue/xid.ts';

// Lost without it: a lost GPU pages nobody, or an application's bug pages everybody.
test.each([
  [13, 'info'],
  [31, 'info'],
  [45, 'info'],
  [63, 'warning'],
  [74, 'error'],
  [48, 'critical'],
  [64, 'critical'],
  [79, 'critical'],
  [94, 'warning'],
  [95, 'critical'],
  [119, 'critical'],
  [149, 'warning'],
  [154, 'warning'],
  [40, 'warning'],
  [104, 'info'],
  [16, 'warning'],
])('Xid %d is %s', (code, severity) => {
  expect(xidNamed(code).severity).toBe(severity);
  expect(isCriticalXid(code)).toBe(severity === 'critical');
});

test('says what to do in words', () => {
  expect(xidNamed(79)).toEqual({
    name: 'GPU has fallen off the bus',
    severity: 'critical',
    action: 'drain and reboot the node; replace when it happens twice within 30 days',
    meaning: 'The GPU cannot be reached over PCIe.',
  });
});

// Lost without it: a code that NVIDIA documents is shown as unknown.
test('every code from 1 to 173 is in the table', () => {
  const codes = Array.from({ length: 173 }, (_, i) => i + 1);
  expect(codes.filter((code) => xidNamed(code).name === 'unknown Xid')).toEqual([]);
});

describe('a code that is not in the table', () => {
  test.each([0, 174, 999, -1, Number.NaN])('%d is a warning without a remedy', (code) => {
    expect(xidNamed(code)).toMatchObject({ name: 'unknown Xid', severity: 'warning' });
    expect(isCriticalXid(code)).toBe(false);
  });
});
