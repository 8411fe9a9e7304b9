import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { EventSchema, LossSchema } from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { eventFromWire, lossFromWire } from '#shared/wire/record.ts';

// What a user would lose: an event that cannot be written out is deferred, comes again, and so on for ever.
test.each([2n ** 63n - 1n, -(2n ** 63n), 8_640_000_000_000_001n, -1n])(
  'an event and a loss at %d ms have a time that can be written',
  (time) => {
    const { timestampMs } = eventFromWire(create(EventSchema, { timeUnixMs: time }));
    const { fromMs, toMs } = lossFromWire(create(LossSchema, { fromUnixMs: time, toUnixMs: time }));
    for (const ms of [timestampMs, fromMs, toMs]) {
      expect(new Date(ms).toISOString()).toMatch(/^(1970|9999)-/);
      expect(Number(timestampFromMs(ms).seconds)).toBe(Math.floor(ms / 1000));
    }
  },
);

test('a time within a calendar stays what it is', () => {
  expect(eventFromWire(create(EventSchema, { timeUnixMs: 1_780_000_000_123n })).timestampMs).toBe(
    1_780_000_000_123,
  );
});

test('texts and counts of a loss are cut to their limits', () => {
  const wire = create(LossSchema, {
    samples: 2n ** 64n - 1n,
    reason: 'r'.repeat(1e6),
    detail: 'd'.repeat(1e6),
  });
  const { samples, reason, detail } = lossFromWire(wire);
  expect(Number.isSafeInteger(samples)).toBe(true);
  expect(reason).toHaveLength(64);
  expect(detail).toHaveLength(1024);
});
