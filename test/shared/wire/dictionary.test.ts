import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import {
  DictionarySchema,
  type Dictionary as WireDictionary,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createDictionary, dictionaryFromWire, dictionaryToWire } from '#shared/wire/dictionary.ts';

const twoSeries = createDictionary('g', 1000, [
  { name: 'm', labels: [['gpu', '0']], kind: 'gauge', decimals: 3, help: 'Some help', unit: 'W' },
  { name: 'm', labels: [['gpu', '1']], kind: 'counter', decimals: -2, help: 'Some help', unit: 'W' },
]);

test('what was sent is what is read', () => {
  expect(dictionaryFromWire(dictionaryToWire(twoSeries, 5))).toEqual(twoSeries);
});

/** Series that all refer to the same few symbols: small on the wire, large everywhere else. */
function bomb(series: number, labels: number, valueLength: number): WireDictionary {
  const names = Array.from({ length: labels }, (_, i) => `l${String(i).padStart(2, '0')}`);
  const symbols = ['', 'm', 'x'.repeat(valueLength), ...names];
  const references = names.flatMap((_, i) => [i + 3, 2]);
  return create(DictionarySchema, {
    group: 'g',
    symbols,
    series: Array.from({ length: series }, () => ({ name: 1, labels: references })),
  });
}

describe('a dictionary that is small on the wire and huge in memory is refused before it is', () => {
  test('10,000 series of 24 labels of 1 KiB: 500 KB sent, 250 MB in every copy', () => {
    expect(() => dictionaryFromWire(bomb(10_000, 24, 1024))).toThrow(
      /labels take more than 32 MiB at slot 13\d\d/,
    );
  });

  test('100,000 series of 24 short labels', () => {
    expect(() => dictionaryFromWire(bomb(100_000, 24, 1))).toThrow(/labels take more than 32 MiB/);
  });

  test('a large honest one is not: 10,000 series of 2 KB of labels', () => {
    expect(() => dictionaryFromWire(bomb(10_000, 20, 100))).toThrow(/hash/);
  });
});
