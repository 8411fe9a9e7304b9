import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { SXID_CODES, sxidNamed } from '#shared/catalogue/sxid.ts';
import { sharedData } from '../../support/data.ts';

const guide = sharedData('samples/catalogues/sxid_gpud.csv');

describe.skipIf(guide === undefined)('the fabric manager guide', () => {
  const rows = (): string[][] =>
    readFileSync(guide!, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(','));

  // Lost without it: an SXid that NVIDIA documents is shown as unknown.
  test('has no code that the table lacks', () => {
    expect(
      rows()
        .map(([code]) => Number(code))
        .sort(),
    ).toEqual([...SXID_CODES].sort());
  });

  // Lost without it: a fault that stops the whole fabric pages nobody.
  test('what is always fatal is critical, what corrects itself is not', () => {
    for (const [code, name, , , always] of rows()) {
      const { severity } = sxidNamed(Number(code), false);
      if (always === 'yes') expect(severity, code).toBe('critical');
      if (name === 'Single bit ECC errors') expect(severity, code).toBe('info');
    }
  });
});

test("the driver's word decides where the table has nothing", () => {
  expect(sxidNamed(99_999, true)).toMatchObject({ name: 'unknown SXid', severity: 'critical' });
  expect(sxidNamed(99_999, false)).toMatchObject({ severity: 'warning' });
});
