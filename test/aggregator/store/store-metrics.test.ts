import { expect, test } from 'vitest';
import { epochOf, parseStoreMetrics, restartedWithin } from '../../../aggregator/store/store-metrics.ts';

const DAY = 86_400_000;

test.each([
  ['12', 12 * 31 * DAY],
  ['30d', 30 * DAY],
  ['2w', 14 * DAY],
  ['1y', 365 * DAY],
  ['48h', 2 * DAY],
])('retention %s: samples beyond it would be refused, or be ignored by the store', (retention, ms) => {
  expect(
    parseStoreMetrics(`flag{name="retentionPeriod", value="${retention}", is_set="true"} 1\n`).retentionMs,
  ).toBe(ms);
});

test('another start time of any process is another incarnation, and none is 0: 0 is "unknown"', () => {
  const first = epochOf(['1780000000', '1780000005']);
  expect(epochOf(['1780000000', '1780000005'])).toBe(first);
  expect(epochOf(['1780000000', '1780000006'])).not.toBe(first);
  expect(epochOf(['1780000000'])).not.toBe(first);
  expect(epochOf(['1780000000'])).not.toBe(0n);
  expect(parseStoreMetrics('vm_app_start_timestamp 1780000000\n').started).toBe('1780000000');
  expect(parseStoreMetrics('go_goroutines 5\n').started).toBeUndefined();
});

test('deduplication off, rows ignored: a 2xx says nothing of it, so it is read', () => {
  const text =
    'flag{name="dedup.minScrapeInterval", value="0s", is_set="false"} 1\nvm_rows_ignored_total{reason="big_timestamp"} 3\nvm_rows_ignored_total{reason="nan_value"} 4\n';
  const { deduplicates, ignored } = parseStoreMetrics(text);
  expect(deduplicates).toBe(false);
  expect([...ignored]).toEqual([
    ['big_timestamp', 3],
    ['nan_value', 4],
  ]);
  expect(parseStoreMetrics('flag{name="dedup.minScrapeInterval", value="1ms"} 1\n').deduplicates).toBe(true);
  // vminsert has no such flag: that is not "off".
  expect(parseStoreMetrics('').deduplicates).toBeUndefined();
});

// Lost without it: what a store accepted and lost that was killed within the second of its start.
test('a restart within one second shows in counters that fell', () => {
  const page = (requests: number, rows: number): string =>
    `vm_app_start_timestamp 1780000000\nvm_http_requests_all_total ${requests}\nvm_rows_inserted_total{type="promremotewrite"} ${rows}\n`;
  const before = parseStoreMetrics(page(12, 400));
  expect(restartedWithin(before, parseStoreMetrics(page(13, 400)))).toBe(false);
  expect(restartedWithin(before, parseStoreMetrics(page(1, 0)))).toBe(true);
  expect(restartedWithin(before, parseStoreMetrics(page(90, 7)))).toBe(true);
});
