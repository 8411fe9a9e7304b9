import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Counters } from '../../../../agent/collect/kernel-log/counters.ts';
import { crashEvents } from '../../../../agent/collect/kernel-log/crash-events.ts';
import { dumpLines, MAX_FILE_BYTES, readCrashDumps } from '../../../../agent/collect/kernel-log/pstore.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';
import { MAX_EVENT_TEXT } from '../../../../shared/model/event.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';
import { forever, KernelNode, NEXT_BOOT, START_MS, XID_45, XID_79 } from './kernel-node.ts';

const capture = sharedData('samples/logs/pstore_dmesg-erst.txt');

describe.skipIf(capture === undefined)('the dump of a real crash', () => {
  // Lost without it: a node comes back after a crash and nobody knows why it was gone.
  test('is one event with its cause and tail, read once', async () => {
    await using node = new KernelNode();
    node.write(
      join(node.host.sys, 'fs/pstore/dmesg-erst-1'),
      readFileSync(capture!, 'utf8'),
      START_MS - 60_000,
    );
    await using first = node.collector();
    const { events } = await first.collect(forever);
    expect(events.map(({ type, attributes }) => [type, attributes.code ?? attributes.cause])).toEqual([
      ['kernel_error', 'oops'],
      // BUG and Oops are two lines of one kind: the second is in the summary.
      ['kernel_error', 'oops'],
      ['crash', 'BUG: unable to handle kernel NULL pointer dereference at           (null)'],
    ]);
    for (const { attributes } of events) expect(attributes).toMatchObject({ late: 'true', source: 'pstore' });
    expect(events[1]!.attributes.count).toBe('1');
    expect(events[2]).toMatchObject({ timestampMs: START_MS - 60_000 });
    expect(events[2]!.text).toContain('CR2: 0000000000000000');
    expect(events[2]!.text.length).toBeLessThanOrEqual(MAX_EVENT_TEXT);
    await first[Symbol.asyncDispose]();
    await using second = node.collector();
    expect((await second.collect(forever)).events).toEqual([]);
  });

  test('moved to another folder is the same crash', async () => {
    await using node = new KernelNode();
    const text = readFileSync(capture!, 'utf8');
    node.write(join(node.host.sys, 'fs/pstore/dmesg-erst-1'), text, START_MS);
    node.write(join(node.host.root, 'var/lib/systemd/pstore/1/dmesg.txt'), text, START_MS);
    expect(await readCrashDumps(node.host, forever)).toHaveLength(1);
  });

  // Lost without it: a dump that the crash itself damaged keeps the agent from starting.
  test('damaged in 220 ways invents nothing', () => {
    const original = readFileSync(capture!);
    const known = new Set(dumpLines(original.toString('utf8')).map(({ text }) => text));
    expect(known.size).toBeGreaterThan(30);
    for (const { what, bytes } of damagedInputs(original, 20260402)) {
      const text = bytes.toString('utf8');
      for (const line of dumpLines(text)) {
        expect(text.includes(line.text), what).toBe(true);
        expect(Number.isFinite(line.usec), what).toBe(true);
      }
      const dump = { id: 'damaged', wallMs: START_MS, lines: dumpLines(text) };
      const told = crashEvents(dump, undefined, {
        verdicts: catalogueVerdicts,
        locate: () => undefined,
        gpuOf: () => undefined,
        counters: new Counters(),
      });
      const codes = told.map(({ type, attributes }) => `${type} ${attributes.code ?? ''}`);
      expect(new Set(['kernel_error oops', 'crash ', ...codes]).size, what).toBe(2);
    }
  });
});

describe('dumps of our own writing', () => {
  const stamped = (usec: number, text: string): string =>
    `<4>[${(usec / 1e6).toFixed(6).padStart(12)}] ${text}`;

  // Lost without it: firmware that stores a log in parts of a kilobyte gives it in the wrong order.
  test('parts are joined in the order they were logged', async () => {
    await using node = new KernelNode();
    const part = (number: number, ...lines: string[]): void =>
      node.write(
        join(node.host.sys, `fs/pstore/dmesg-efi-17${number}`),
        ['Panic#1 Part'.concat(String(number)), ...lines].join('\n'),
        START_MS,
      );
    part(1, stamped(3e6, 'third'), stamped(4e6, 'Kernel panic - not syncing: Fatal exception'));
    part(2, stamped(1e6, 'first'), stamped(2e6, 'second'));
    const [dump, ...others] = await readCrashDumps(node.host, forever);
    expect(others).toEqual([]);
    expect(dump!.lines.map(({ text }) => text)).toEqual([
      'first',
      'second',
      'third',
      'Kernel panic - not syncing: Fatal exception',
    ]);
  });

  // Lost without it: an Xid that was reported before the crash is reported again after it.
  test('what was reported before the crash is not reported again, what was not is', async () => {
    await using node = new KernelNode();
    await using before = node.collector();
    node.log(XID_79);
    const loggedUsec = node.uptimeMs * 1000;
    expect((await before.collect(forever)).events).toHaveLength(1);
    await before[Symbol.asyncDispose]();
    const lines = [
      stamped(loggedUsec, XID_79),
      stamped(loggedUsec + 2e6, XID_45),
      stamped(loggedUsec + 3e6, 'Kernel panic - not syncing: x'),
    ];
    node.write(join(node.host.sys, 'fs/pstore/dmesg-erst-9'), lines.join('\n'), START_MS + 3000);
    node.boot(NEXT_BOOT, 30_000);
    node.now += 600_000;
    await using after = node.collector();
    const { events } = await after.collect(forever);
    expect(events.map(({ type, attributes }) => `${type} ${attributes.code ?? ''}`)).toEqual([
      'xid 45',
      'kernel_error panic',
      'crash ',
    ]);
    expect(events[0]).toMatchObject({ timestampMs: START_MS + 2000, gpu: '3' });
  });

  test('of any size are read in bounds, and a folder that is not there is no crash', async () => {
    await using node = new KernelNode();
    expect(await readCrashDumps(node.host, forever)).toEqual([]);
    node.write(
      join(node.host.sys, 'fs/pstore/dmesg-ramoops-0'),
      `${'x'.repeat(2 * MAX_FILE_BYTES)}\n${stamped(1e6, 'end')}`,
      START_MS,
    );
    node.write(join(node.host.sys, 'fs/pstore/dmesg-efi-1.enc.z'), 'binary', START_MS);
    const [dump, ...others] = await readCrashDumps(node.host, forever);
    expect(others).toEqual([]);
    expect(dump!.lines.at(-1)!.text).toBe('end');
    expect(dump!.lines.reduce((sum, { text }) => sum + text.length, 0)).toBeLessThanOrEqual(MAX_FILE_BYTES);
  });
});
