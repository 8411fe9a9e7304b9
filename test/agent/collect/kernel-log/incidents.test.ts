import { describe, expect, test } from 'vitest';
import type { Finding } from '../../../../agent/collect/kernel-log/finding.ts';
import {
  INCIDENT_GAP_MS,
  INCIDENT_MAX_MS,
  Incidents,
  MAX_INCIDENTS,
} from '../../../../agent/collect/kernel-log/incidents.ts';
import { LineReader } from '../../../../agent/collect/kernel-log/line-reader.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';

const reader = new LineReader(catalogueVerdicts, () => undefined);
const found = (text: string): Finding => reader.read(text) as Finding;
const xid = (code: number, bus = '91'): Finding => found(`NVRM: Xid (PCI:0000:${bus}:00): ${code}, x`);
const asks = (to: string): Finding =>
  found(`NVRM: Xid (PCI:0000:91:00): 154, GPU recovery action changed from 0x0 (None) to ${to}`);

/** [code, ms] in order; what each is to its incident. */
function play(...lines: (readonly [Finding, number])[]): string[] {
  const incidents = new Incidents();
  return lines.map(([finding, ms], i) => {
    const member = incidents.join(finding, `id${i}`, ms)!;
    const how = member.cancels
      ? `cancels ${member.cancels}`
      : member.follows
        ? `follows ${member.follows}`
        : member.escalates
          ? `escalates ${member.escalates}`
          : 'first';
    return `${member.incident.id} ${how}`;
  });
}

// Lost without it: one fault pages once for each line that it causes.
test.each([
  [
    '45 after 79',
    play([xid(79), 0], [xid(45), 100], [xid(45), 200]),
    ['id0 first', 'id0 follows 79', 'id0 follows 79'],
  ],
  ['43 after 13', play([xid(13), 0], [xid(43), 2]), ['id0 first', 'id0 follows 13']],
  [
    '63 and 94 after 48',
    play([xid(48), 0], [xid(63), 30], [xid(94), 40]),
    ['id0 first', 'id0 follows 48', 'id0 follows 48'],
  ],
  ['171, the detail of a 48', play([xid(48), 0], [xid(171), 1]), ['id0 first', 'id0 follows 48']],
  [
    '79 after 13 is worse',
    play([xid(13), 0], [xid(79), 10], [xid(45), 20]),
    ['id0 first', 'id0 escalates 13', 'id0 follows 79'],
  ],
  [
    'the cause after its consequence',
    play([asks('0x1 (GPU Reset Required)'), 0], [xid(119), 1], [xid(45), 2]),
    ['id0 first', 'id0 escalates 154', 'id0 follows 119'],
  ],
  ['45 alone', play([xid(45), 0]), ['id0 first']],
  [
    'a minute later is another',
    play([xid(79), 0], [xid(45), INCIDENT_GAP_MS + 1]),
    ['id0 first', 'id1 first'],
  ],
  ['another GPU is another', play([xid(48), 0], [xid(48, '19'), 1]), ['id0 first', 'id1 first']],
  ['162 takes 163 back', play([xid(163), 0], [xid(162), 10]), ['id0 first', 'id0 cancels 163']],
  [
    '154 says nothing is to be done: it is over',
    play([xid(79), 0], [asks('0x0 (None)'), 1], [xid(13), 2]),
    ['id0 first', 'id0 follows 79', 'id2 first'],
  ],
])('%s', (_, got, expected) => {
  expect(got).toEqual(expected);
});

// Lost without it: a GPU that dies looks like a broken fabric as well.
test('what peers and switches say after a GPU died belongs to its incident', () => {
  const sxid = found('nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up');
  expect(
    play(
      [xid(79), 0],
      [sxid, 11_850],
      [xid(74, '19'), 12_000],
      [xid(45, '1a'), 12_001],
      [xid(48, '1b'), 12_002],
    ),
  ).toEqual(['id0 first', 'id0 follows 79', 'id0 follows 79', 'id0 follows 79', 'id4 first']);
  expect(play([sxid, 0])).toEqual(['id0 first']);
});

describe('limits', () => {
  test('a device that goes on complaining has a new incident in the end', () => {
    const lines = Array.from({ length: 15 }, (_, i) => [xid(31), i * 50_000] as const);
    const ids = new Set(play(...lines).map((line) => line.split(' ')[0]));
    expect(ids.size).toBe(Math.ceil((15 * 50_000) / INCIDENT_MAX_MS));
  });

  // Lost without it: damaged lines with addresses that nobody has eat the memory.
  test('so many devices at most', () => {
    const incidents = new Incidents();
    for (let i = 0; i < 3 * MAX_INCIDENTS; i++) incidents.join({ ...xid(79), pci: `0000:${i}` }, `id${i}`, i);
    expect(incidents.all).toHaveLength(MAX_INCIDENTS);
  });

  test('survive a restart', () => {
    const before = new Incidents();
    before.join(xid(79), 'id', 0);
    const after = new Incidents();
    after.restore(JSON.parse(JSON.stringify(before.all)));
    expect(after.join(xid(45), 'other', 1)).toMatchObject({ follows: '79', incident: { id: 'id' } });
  });
});
