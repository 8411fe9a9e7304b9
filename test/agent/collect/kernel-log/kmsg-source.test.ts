import { execFileSync } from 'node:child_process';
import { appendFileSync, closeSync, constants, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseKmsgRecord } from '../../../../agent/collect/kernel-log/kmsg-record.ts';
import { KmsgSource, MAX_READS, openKmsg } from '../../../../agent/collect/kernel-log/kmsg-source.ts';
import type { LogRecord } from '../../../../agent/collect/kernel-log/log-source.ts';
import { skipLoudly } from '../../../support/data.ts';
import { tempDir } from '../../../support/temp.ts';
import { forever } from './kernel-node.ts';

async function look(source: KmsgSource) {
  const records: LogRecord[] = [];
  const seen = await source.look((record) => records.push(record), forever);
  return { ...seen, records, texts: records.map(({ text }) => text) };
}

describe('a record', () => {
  // Lost without it: a newer kernel's field, or a name that is not ASCII, makes lines unreadable.
  test.each([
    [
      '6,3998,261229012,-;nvidia-nvswitch3: open (major=510)',
      { facility: 0, sequence: 3998, usec: 261229012, text: 'nvidia-nvswitch3: open (major=510)' },
    ],
    ['12,1,2,-,caller=T512,more=1;a;b', { facility: 1, sequence: 1, usec: 2, text: 'a;b' }],
    ['4,1,2,c;tab\\x09and \\xc3\\xa9', { facility: 0, sequence: 1, usec: 2, text: 'tab\tand \u00e9' }],
  ])('%s', (line, record) => {
    expect(parseKmsgRecord(line)).toEqual(record);
  });

  test.each(['', 'x', '6,1;x', '6,1,2,-', '6,a,2,-;x', '6,99999999999999999999,2,-;x'])(
    'is not: %s',
    (line) => {
      expect(parseKmsgRecord(line)).toBeUndefined();
    },
  );
});

describe('a fake device', () => {
  const write = (path: string, ...sequences: number[]): void => {
    for (const n of sequences)
      appendFileSync(path, `4,${n},${n * 10},-;line ${n}\n DEVICE=+pci:0000:01:00.0\n`);
  };

  test('is read from where it was', async () => {
    await using dir = tempDir();
    const path = join(dir.path, 'kmsg');
    write(path, 5, 6);
    await using first = new KmsgSource(path, '');
    expect(await look(first)).toMatchObject({ texts: ['line 5', 'line 6'], lost: 0, drained: true });
    expect((await look(first)).texts).toEqual([]);
    write(path, 7);
    expect((await look(first)).texts).toEqual(['line 7']);
    await using second = new KmsgSource(path, '7');
    expect((await look(second)).texts).toEqual(['line 7']);
    expect(second.cursor).toBe('8');
  });

  // Lost without it: what was overwritten is not known to be missing.
  test('tells how many records are gone', async () => {
    await using dir = tempDir();
    const path = join(dir.path, 'kmsg');
    write(path, 100, 104);
    await using source = new KmsgSource(path, '90');
    expect(await look(source)).toMatchObject({ lost: 13, texts: ['line 100', 'line 104'] });
  });

  // Lost without it: a quiet kernel holds up the whole agent.
  test('that is a FIFO without a word never makes it wait', async () => {
    await using dir = tempDir();
    const path = join(dir.path, 'kmsg');
    execFileSync('mkfifo', [path]);
    await using source = new KmsgSource(path, '');
    expect((await look(source)).texts).toEqual([]);
    const writer = openSync(path, constants.O_WRONLY);
    expect((await look(source)).texts).toEqual([]);
    writeSync(writer, '4,1,10,-;first\n4,2,20,-;sec');
    expect((await look(source)).texts).toEqual(['first']);
    writeSync(writer, 'ond\n');
    expect((await look(source)).texts).toEqual(['second']);
    closeSync(writer);
  });

  // Lost without it: a line without end eats the memory.
  test('that never ends a line is cut and counted', async () => {
    await using dir = tempDir();
    const path = join(dir.path, 'kmsg');
    writeFileSync(path, 'x'.repeat(100_000));
    await using source = new KmsgSource(path, '');
    expect((await look(source)).malformed).toBeGreaterThan(0);
  });

  test('that is not there, or not for us, says so', () => {
    expect(() => openKmsg('/nonexistent/kmsg')).toThrow(expect.objectContaining({ code: 'unavailable' }));
  });
});

function realKmsg(): boolean {
  try {
    closeSync(openKmsg('/dev/kmsg'));
    return true;
  } catch {
    skipLoudly('the real /dev/kmsg cannot be read here');
    return false;
  }
}

// Lost without it: everything works on files, and nothing on the device.
describe.skipIf(!realKmsg())('the real /dev/kmsg', () => {
  test('is read to its end without waiting, and only once', async () => {
    await using source = new KmsgSource('/dev/kmsg', '');
    const first = await look(source);
    expect(first.records.length).toBeGreaterThan(0);
    expect(first.records.length).toBeLessThanOrEqual(MAX_READS);
    expect(first.malformed).toBe(0);
    expect(first.records.every(({ usec, text }) => usec >= 0 && text !== '')).toBe(true);
    await using again = new KmsgSource('/dev/kmsg', source.cursor);
    const known = new Set(first.records.map(({ usec, text }) => `${usec} ${text}`));
    expect((await look(again)).records.filter(({ usec, text }) => known.has(`${usec} ${text}`))).toEqual([]);
  });
});
