import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { JournalSource, parseEntry } from '../../../../agent/collect/kernel-log/journal-source.ts';
import type { LogRecord } from '../../../../agent/collect/kernel-log/log-source.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { BOOT, forever, KernelNode, NEXT_BOOT, START_MS, XID_45, XID_79 } from './kernel-node.ts';

const entry = (cursor: string, text: unknown, usec = 1_000_500_000, boot = BOOT): string =>
  JSON.stringify({
    __CURSOR: cursor,
    __REALTIME_TIMESTAMP: String(START_MS * 1000),
    _SOURCE_MONOTONIC_TIMESTAMP: String(usec),
    _BOOT_ID: boot,
    SYSLOG_FACILITY: '0',
    PRIORITY: '4',
    MESSAGE: text,
  });

/** A journalctl that notes its arguments, prints these lines and then waits or ends. */
function fakeJournalctl(dir: string, lines: readonly string[], ending = 'exec sleep 60'): string {
  const path = join(dir, 'journalctl');
  writeFileSync(join(dir, 'lines'), lines.map((line) => `${line}\n`).join(''));
  writeFileSync(path, `#!/bin/sh\necho "$@" >> ${dir}/args\ncat ${dir}/lines\n${ending}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe('an entry', () => {
  test('has text, time, boot and cursor', () => {
    expect(parseEntry(entry('c1', XID_79))).toEqual({
      cursor: 'c1',
      text: XID_79,
      usec: 1_000_500_000,
      wallMs: START_MS,
      boot: BOOT,
      facility: 0,
    });
    expect(parseEntry(entry('c1', [78, 86]))).toMatchObject({ text: 'NV' });
  });

  test.each(['', 'null', '7', '{}', '{"__CURSOR":"c","MESSAGE":null}', entry('c', 'x').slice(0, -9)])(
    'is not: %s',
    (line) => {
      expect(parseEntry(line)).toBeUndefined();
    },
  );
});

describe('journald', () => {
  // Lost without it: a node that lets nobody read /dev/kmsg has no kernel log.
  test('is followed from the cursor, and its child ends with the source', async () => {
    await using dir = tempDir();
    const records: LogRecord[] = [];
    const command = fakeJournalctl(dir.path, [entry('c1', XID_79), 'rubbish', entry('c2', XID_45)]);
    const source = new JournalSource(command, 'c0', { now: Date.now, monotonic: () => performance.now() });
    let malformed = 0;
    await until(
      async () => {
        malformed += (await source.look((record) => records.push(record), forever)).malformed;
        return records.length === 2;
      },
      { timeoutMs: 10_000, what: 'two records' },
    );
    expect(records.map(({ text }) => text)).toEqual([XID_79, XID_45]);
    expect(malformed).toBe(1);
    expect(source.cursor).toBe('c2');
    await source[Symbol.asyncDispose]();
    await source[Symbol.asyncDispose]();
  });

  // Lost without it: a journalctl that cannot start looks like a quiet kernel.
  test.each([
    ['is not there', undefined, 'ENOENT'],
    [
      'refuses',
      'echo "No journal files were opened due to insufficient permissions." >&2; exit 1',
      'insufficient permissions',
    ],
  ])('that %s is a failed read that says why', async (_, ending, why) => {
    await using dir = tempDir();
    const command = ending === undefined ? join(dir.path, 'none') : fakeJournalctl(dir.path, [], ending);
    await using source = new JournalSource(command, '', {
      now: Date.now,
      monotonic: () => performance.now(),
    });
    const problem = await until(
      () =>
        source
          .look(() => {}, forever)
          .then(
            () => '',
            (error: Error) => error.message,
          ),
      { timeoutMs: 10_000, what: 'a failure' },
    );
    expect(problem).toContain(why);
    expect(existsSync(join(dir.path, 'args'))).toBe(ending !== undefined);
  });

  // Lost without it: the last words before a reboot stay in the journal.
  test('also gives what an earlier boot said since, marked late', async () => {
    await using node = new KernelNode();
    await using dir = tempDir();
    const command = fakeJournalctl(dir.path, [entry('c1', XID_79, 5, NEXT_BOOT), entry('c2', XID_45)]);
    await using collector = node.collector({
      from: 'journal',
      open: (cursor) => new JournalSource(command, cursor, node.clock),
    });
    const events = await until(
      async () => {
        const { events: found } = await collector.collect(forever);
        return found.length > 0 && found;
      },
      { timeoutMs: 10_000, what: 'events' },
    );
    expect(events.map(({ attributes }) => [attributes.code, attributes.late, attributes.follows])).toEqual([
      ['79', 'true', undefined],
      ['45', undefined, undefined],
    ]);
  });
});
