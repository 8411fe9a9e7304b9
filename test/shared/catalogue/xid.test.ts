import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { isCriticalXid, xidNamed } from '#shared/catalogue/xid.ts';
import { sharedData } from '../../support/data.ts';

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
  expect(xidNamed(79)).toMatchObject({
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

const unified = sharedData('samples/catalogues/xid-unified.csv');

describe.skipIf(unified === undefined)('the verdicts of all others', () => {
  // Lost without it: an operator whose other tool says the opposite cannot know why ours does not.
  test('where they disagree on a code, ours has a reason', () => {
    const codes = disagreements(readFileSync(unified!, 'utf8'));
    expect(codes.length).toBeGreaterThanOrEqual(34);
    expect(codes.filter((code) => xidNamed(code).reason === '')).toEqual([]);
  });

  test('every code that they know is in the table', () => {
    const codes = rowsOf(readFileSync(unified!, 'utf8')).map(({ xid }) => Number(xid));
    expect(codes).toHaveLength(173);
    expect(codes.filter((code) => xidNamed(code).name === 'unknown Xid')).toEqual([]);
  });
});

/** Codes that one takes the GPU or node out for, and another does not. */
function disagreements(csv: string): number[] {
  const acts = ['RESET_GPU', 'RESTART_BM', 'RESTART_VM', 'WORKFLOW_XID_48'];
  const spares = ['RESTART_APP', 'IGNORE'];
  return rowsOf(csv)
    .filter((row) => {
      const nvidia = row.nvidia_immediate_action!;
      const sentinel = row.nvsentinel_action!;
      const gpud = row.gpud_event === 'Fatal' || row.gpud_actions!.includes('Reboot');
      const decided = sentinel !== '' && !/default|BY_|not in/.test(sentinel);
      const out = [
        acts.includes(nvidia),
        gpud,
        decided && sentinel !== 'NONE',
        row.azure_nhc_fails === 'yes',
        row.nvidia_gpu_exporter_alert === 'critical',
        row.dcgm_health_class!.startsWith('FAIL'),
      ];
      const stays = [
        spares.includes(nvidia),
        !gpud,
        sentinel === 'NONE',
        row.nvidia_gpu_exporter_alert === 'warning',
        row.dcgm_health_class!.startsWith('WARN'),
      ];
      return out.includes(true) && stays.includes(true);
    })
    .map(({ xid }) => Number(xid));
}

/** Cells may be quoted and hold commas and newlines. */
function rowsOf(csv: string): Record<string, string>[] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain, end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)!.push(quoted ?? plain ?? '');
    if (end !== ',') rows.push([]);
  }
  const [names = [], ...cells] = rows.filter((row) => row.length > 5);
  return cells.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i] ?? ''])));
}
