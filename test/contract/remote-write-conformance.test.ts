import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CASES_1_0, CASES_2_0, type ConformanceCase } from './remote-write-cases.ts';
import { RemoteWriteStand } from './remote-write-stand.ts';

// A user whose store is not VictoriaMetrics, or who moves here from Prometheus, relies on what every sender does.
let stand: RemoteWriteStand;

beforeAll(async () => {
  stand = await RemoteWriteStand.start();
});

afterAll(async () => {
  await stand?.[Symbol.asyncDispose]();
});

const titled = (cases: readonly ConformanceCase[]) =>
  cases.map(
    (one) => [one.instead === undefined ? one.name : `${one.name} (ours: ${one.instead})`, one] as const,
  );

describe('remote write 1.0 sender', () => {
  test('all nineteen cases of the suite are here', () => {
    expect(new Set(CASES_1_0.map(({ name }) => name)).size).toBe(19);
  });

  test.each(titled(CASES_1_0))('%s', (_, { run }) => run(stand));
});

describe('remote write 2.0 sender, what a 1.0 sender must do too', () => {
  test.each(titled(CASES_2_0))('%s', (_, { run }) => run(stand));

  test('and not one request that cannot be read', () => expect(stand.receiver.malformed).toEqual([]));
});
