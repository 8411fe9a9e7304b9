import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LineReader } from '../../../../agent/collect/kernel-log/line-reader.ts';
import {
  catalogueVerdicts,
  parseOverrides,
  readVerdicts,
} from '../../../../agent/collect/kernel-log/verdicts.ts';
import { tempDir } from '../../../support/temp.ts';

const SITE = `xid:
  63: { severity: info, action: none, reason: we reset all nodes on Sundays }
  149: { severity: error }
sxid:
  20009: { severity: error }
`;

// Lost without it: a site that knows better must live with our verdicts, or patch the agent.
test("a site's verdicts go over the catalogue's, and what they leave out stays", async () => {
  await using dir = tempDir();
  const path = join(dir.path, 'verdicts.yaml');
  writeFileSync(path, SITE);
  const verdicts = readVerdicts(path);
  expect(verdicts.xid(63)).toEqual({
    ...catalogueVerdicts.xid(63),
    severity: 'info',
    action: 'none',
    reason: 'we reset all nodes on Sundays',
    overridden: true,
  });
  expect(verdicts.xid(79)).toEqual(catalogueVerdicts.xid(79));
  expect(verdicts.sxid(20009, false)).toMatchObject({ name: 'RX short error rate', severity: 'error' });
  const reader = new LineReader(verdicts, () => undefined);
  expect(
    reader.read(
      'NVRM: Xid (PCI:0000:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000)',
    ),
  ).toMatchObject({ severity: 'error', reason: 'a rule of this site' });
});

describe('a fault is named with its line and path', () => {
  // Lost without it: somebody looks for a typing error in a file of 200 lines, or a wrong verdict is taken in silence.
  test.each([
    [
      'xid:\n  63: { severity: info }\n  64: { severity: bad }\n',
      'line 3, xid.64.severity: must be info, warning, error, critical',
    ],
    ['xid:\n  63:\n    colour: red\n', 'line 3, xid.63.colour: there is no such setting'],
    ['# nothing\nfoo: 1\n', 'line 2, foo: there is no such setting'],
    ['xid:\n  abc: { severity: info }\n', 'xid.abc: is not a code'],
    ['sxid: 7\n', 'line 1, sxid: must be a map of codes'],
    ['xid:\n  63: { severity: [\n', 'yaml'],
  ])('%j', (text, message) => {
    expect(() => parseOverrides(text, 'v.yaml')).toThrow(message);
  });

  test('a file that is not there', () => {
    expect(() => readVerdicts('/nonexistent/v.yaml')).toThrow('Cannot read /nonexistent/v.yaml');
  });

  test('an empty file changes nothing', () => {
    expect(parseOverrides('', 'v.yaml')).toEqual({ xid: {}, sxid: {} });
  });
});
