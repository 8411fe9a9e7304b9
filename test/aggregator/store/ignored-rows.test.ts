import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { IgnoredRows, type StoreLoss } from '../../../aggregator/store/ignored-rows.ts';
import type { StoreFacts } from '../../../aggregator/store/store-watch.ts';

const facts = (epoch: bigint, ignored: Record<string, number>): StoreFacts => ({
  epoch,
  readAt: 0,
  provenAt: 0,
  deduplicates: true,
  retentionMs: undefined,
  ignored: new Map(Object.entries(ignored)),
});

function watched(onLoss: (loss: StoreLoss) => void) {
  return new IgnoredRows({ clock: systemClock, onLoss, logger: silentLogger, registry: createRegistry() });
}

// Lost without it: samples that the store dropped with a 204, without a trace.
test('a rise within one incarnation is a loss; what was there before the first look is not', async () => {
  const losses: StoreLoss[] = [];
  const rows = watched((loss) => losses.push(loss));
  await rows.observe(facts(1n, { big_timestamp: 100 }));
  await rows.observe(facts(1n, { big_timestamp: 100 }));
  expect(losses).toEqual([]);
  await rows.observe(facts(1n, { big_timestamp: 103, small_timestamp: 4 }));
  // Of a new incarnation all has happened while we watched.
  await rows.observe(facts(2n, { big_timestamp: 2 }));
  expect(losses.map(({ samples }) => samples)).toEqual([7, 2]);
  expect(losses[0]!.detail).toContain('3 big_timestamp, 4 small_timestamp');
  expect(losses[0]!.toMs).toBeGreaterThanOrEqual(losses[0]!.fromMs);
});

test('a loss that could not be written down is told again, with what came since', async () => {
  let fails = true;
  const counts: number[] = [];
  const rows = watched(({ samples }) => {
    counts.push(samples);
    if (fails) throw new Error('the disk is full');
  });
  await rows.observe(facts(1n, {}));
  await rows.observe(facts(1n, { big_timestamp: 3 }));
  fails = false;
  await rows.observe(facts(1n, { big_timestamp: 5 }));
  await rows.observe(facts(1n, { big_timestamp: 5 }));
  expect(counts).toEqual([3, 5]);
});
