import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { registerVerdict } from '#shared/catalogue/nvlink-registers.ts';
import { nvlink5Verdict } from '#shared/catalogue/nvlink5.ts';
import { sharedData } from '../../support/data.ts';

const table = sharedData('samples/catalogues/xid-144-150-nvlink5-decode.csv');

/** Binary with `-` for what does not matter. */
const bits = (pattern: string): number => Number.parseInt(pattern.replaceAll('-', '0') || '0', 2);

/** Quoted cells may hold newlines. */
function csv(text: string): string[][] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)!.push(quoted ?? plain ?? '');
    if (end !== ',') rows.push([]);
  }
  return rows.filter((row) => row.length > 5);
}

describe.skipIf(table === undefined)("NVIDIA's table of NVLink 5 errors", () => {
  // Lost without it: a link that only needs a new cable has its GPU reset, or a broken GPU goes on.
  test('every row gives its recovery action, in the words of old and new drivers', () => {
    const rows = csv(readFileSync(table!, 'utf8')).slice(1);
    expect(rows).toHaveLength(95);
    for (const [
      xid,
      unit,
      old,
      recent,
      status = '',
      action,
      fatalOld,
      fatalRecent,
      ,
      ,
      severity = '',
    ] of rows) {
      const fatal = severity.includes('atal') && !severity.startsWith('Non');
      const errorStatus = Number(status.split('/')[0] || 0);
      for (const pattern of [old!, recent!]) {
        const said = nvlink5Verdict({
          xid: Number(xid),
          unit: unit!,
          fatal,
          intrInfo: bits(pattern),
          errorStatus,
        });
        expect(said.action, `${xid} ${unit} ${status} ${pattern}`).toBe(WORDS[action!]);
        expect(said.severity === 'critical', `${xid} ${unit} ${status}`).toBe(action === 'RESET_GPU');
      }
      for (const pattern of [fatalOld, fatalRecent].filter((one) => one?.includes('1'))) {
        const said = nvlink5Verdict({
          xid: Number(xid),
          unit: unit!,
          fatal: false,
          intrInfo: bits(pattern!),
          errorStatus,
        });
        expect(said.action, `${unit} ${pattern}`).toBe('reset the GPU');
      }
    }
  });
});

const WORDS: Record<string, string> = {
  RESET_GPU: 'reset the GPU',
  IGNORE: 'none',
  XID_154_EVAL: 'do what Xid 154 says; without one, restart the application',
};

describe('what the table does not have', () => {
  const words = { xid: 144, unit: 'SAW_EGR', intrInfo: 1, errorStatus: 1 };

  test("is judged by the driver's word", () => {
    expect(nvlink5Verdict({ ...words, fatal: true })).toMatchObject({
      severity: 'critical',
      action: 'reset the GPU',
    });
    expect(nvlink5Verdict({ ...words, fatal: false })).toMatchObject({ severity: 'warning', action: 'none' });
  });

  test('Fatal is never lowered', () => {
    expect(nvlink5Verdict({ ...words, unit: 'SAW_MVB', errorStatus: 4, fatal: true })).toMatchObject({
      action: 'reset the GPU',
    });
  });

  test('of several bits the worst decides', () => {
    expect(nvlink5Verdict({ ...words, unit: 'SAW_MVB', errorStatus: 0x6, fatal: false })).toMatchObject({
      action: 'reset the GPU',
    });
  });
});

// Lost without it: a GPU is re-seated for an echo of its peer's fault.
test.each([
  [[0, 0, 0x10000, 0, 0, 0, 0], { severity: 'error', bits: '3.16' }],
  [[2 ** 20, 0, 0, 0, 0, 0, 0], { severity: 'info', bits: '1.20' }],
  [
    [2 ** 20 + 2 ** 9, 0, 0, 0, 0, 0, 0],
    { action: 'check the mechanics of the link and re-seat the GPU', bits: '1.9' },
  ],
  [[0, 0, 0, 2 ** 18, 0, 0, 0], { severity: 'error', bits: '4.18' }],
  [[0, 0, 0, 0, 2 ** 20, 0, 0], { severity: 'warning', bits: '5.20' }],
  [[2 ** 23, 0xffffffff, 0, 0, 0, 0, 0], { severity: 'info', bits: '1.23' }],
  [[0, 0, 0, 0, 0, 0, 0], undefined],
])('the registers %j', (words, verdict) => {
  if (verdict === undefined) expect(registerVerdict(words)).toBeUndefined();
  else expect(registerVerdict(words)).toMatchObject(verdict);
});
