import { expect, test } from 'vitest';
import { bareTitle, headline } from '../../../../../aggregator/alerts/notify/receivers/headline.ts';

// On a lock screen the first word is all that is read: it says how bad it is, and says it once.
test.each([
  ['GPU lost', 'critical', 'firing', 'CRITICAL: GPU lost', 'GPU lost'],
  ['CRITICAL: GPU lost', 'critical', 'firing', 'CRITICAL: GPU lost', 'GPU lost'],
  ['WARNING (still): hot', 'warning', 'firing', 'WARNING (still): hot', '(still): hot'],
  ['RESOLVED: GPU lost', 'critical', 'resolved', 'RESOLVED: GPU lost', 'GPU lost'],
  ['INFO', 'info', 'firing', 'INFO', 'INFO'],
  ['a\r\nb', 'info', 'firing', 'INFO: a b', 'a b'],
] as const)('%j, %s and %s', (title, severity, status, whole, bare) => {
  expect(headline({ title, severity, status })).toBe(whole);
  expect(bareTitle({ title, severity, status })).toBe(bare);
});
