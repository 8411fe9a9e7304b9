import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { VictoriaMetricsLink } from '../../../aggregator/store/store-link.ts';
import { parseStoreMetrics } from '../../../aggregator/store/store-watch.ts';
import { startReceiver } from '../../support/remote-write-receiver.ts';
import { hasVictoriaMetrics } from '../../support/servers.ts';
import { startVictoriaMetrics } from '../../support/victoria-metrics.ts';
import { until } from '../../support/wait.ts';

const DAY = 86_400_000;

test.each([
  ['12', 12 * 31 * DAY],
  ['30d', 30 * DAY],
  ['2w', 14 * DAY],
  ['1y', 365 * DAY],
  ['48h', 2 * DAY],
])('retention %s', (retention, ms) => {
  expect(
    parseStoreMetrics(`flag{name="retentionPeriod", value="${retention}", is_set="true"} 1\n`, 0).retentionMs,
  ).toBe(ms);
});

test('another start time is another incarnation; none is none', () => {
  const epochOf = (text: string) => parseStoreMetrics(text, 0).epoch;
  const first = epochOf('vm_app_start_timestamp 1780000000\n');
  expect(epochOf('vm_app_start_timestamp 1780000000\n')).toBe(first);
  expect(epochOf('vm_app_start_timestamp 1780000001\n')).not.toBe(first);
  expect(epochOf('go_goroutines 5\n')).toBe(0n);
});

test('deduplication off, rows ignored: a 2xx says nothing of it, so it is read', () => {
  const text =
    'flag{name="dedup.minScrapeInterval", value="0s", is_set="false"} 1\nvm_rows_ignored_total{reason="big_timestamp"} 3\nvm_rows_ignored_total{reason="nan_value"} 4\n';
  expect(parseStoreMetrics(text, 0)).toMatchObject({ deduplicates: false, ignoredRows: 7 });
  expect(parseStoreMetrics('flag{name="dedup.minScrapeInterval", value="1ms"} 1\n', 0).deduplicates).toBe(
    true,
  );
});

function link(url: string, onChange = () => {}) {
  return new VictoriaMetricsLink({
    url,
    clock: systemClock,
    random: () => 0.5,
    logger: silentLogger,
    registry: createRegistry(),
    onChange,
  });
}

test.skipIf(!hasVictoriaMetrics())(
  'a real VictoriaMetrics: its incarnation changes with a restart, and its limits bound what is admitted',
  { timeout: 60_000 },
  async () => {
    await using store = await startVictoriaMetrics({ flags: ['-retentionPeriod=30d'] });
    let changes = 0;
    await using watched = link(store.url, () => changes++);
    const stop = new AbortController();
    const running = watched.run(stop.signal);
    await until(() => watched.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the first epoch' });
    const before = watched.status.epoch;
    expect(watched.status.notes).toEqual([]);
    const { minMs, maxMs } = watched.timeBounds;
    expect(Date.now() - minMs).toBeGreaterThan(29.9 * DAY);
    expect(Date.now() - minMs).toBeLessThan(30 * DAY);
    expect(maxMs - Date.now()).toBeLessThan(2 * DAY);
    await store.kill9();
    // The start time counts whole seconds: two starts within one cannot be told apart.
    const killed = Math.floor(Date.now() / 1000);
    await until(() => Math.floor(Date.now() / 1000) > killed, { timeoutMs: 2_000, what: 'another second' });
    await store.restart();
    await until(() => watched.status.epoch !== before, { timeoutMs: 20_000, what: 'the new epoch' });
    expect(changes).toBeGreaterThanOrEqual(2);
    stop.abort();
    await running;
  },
);

test('a store that does not say when it started, or does not deduplicate, is shown as such', async () => {
  await using receiver = await startReceiver();
  receiver.metrics = 'go_goroutines 5\n';
  await using watched = link(receiver.url);
  const stop = new AbortController();
  const running = watched.run(stop.signal);
  await until(() => watched.status.notes.length === 2, { timeoutMs: 10_000, what: 'both notes' });
  expect(watched.status.notes.join()).toMatch(/at-least-once.*degraded/);
  stop.abort();
  await running;
});
