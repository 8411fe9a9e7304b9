import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';
import expected from './captures.expected.json' with { type: 'json' };
import { logLines } from './log-lines.ts';
import { readEvents, readLines } from './read-capture.ts';

const folder = sharedData('samples/logs');
const files = Object.entries(expected);
const textOf = (file: string): string => readFileSync(join(folder!, file), 'utf8');

describe.skipIf(folder === undefined)('captured kernel logs', () => {
  test('all have an expected result', () => {
    const captured = readdirSync(folder!).filter((name) => !name.startsWith('pstore'));
    expect(files.map(([name]) => name).sort()).toEqual(captured.sort());
  });

  // Lost without it: an error that a real machine logged is not seen, or one is seen that nobody logged.
  test.each(files)('%s says what is in it, no more and no less', (file, { malformed, lines, events }) => {
    const read = readLines(textOf(file));
    const found: Record<string, number> = {};
    for (const { found: one } of read.lines) {
      const kind = `${one.type} ${one.code} ${one.severity}`;
      found[kind] = (found[kind] ?? 0) + 1;
    }
    expect(found).toEqual(lines);
    expect(read.malformed).toBe(malformed);
    expect(readEvents(textOf(file)).events).toHaveLength(events);
  });

  // Lost without it: a storm's lines are counted short, and a rate over the counter is wrong.
  test.each(files)('every line of %s is counted once, in an event or in a summary', (file) => {
    const { lines } = readLines(textOf(file));
    const { events, counters } = readEvents(textOf(file));
    const told = events.reduce((sum, { attributes }) => sum + Number(attributes.count), 0);
    expect(told).toBe(lines.length);
    const counted = counters.series.reduce(
      (sum, { name }, i) => sum + (name === 'kernel_log_events_total' ? counters.values[i]! : 0),
      0,
    );
    expect(counted).toBe(lines.length);
  });

  // Lost without it: a damaged log stops the agent, or makes it report an error of a GPU that had none.
  test.each(files)('%s damaged in 220 ways invents nothing', (file) => {
    const original = readFileSync(join(folder!, file));
    const intact = new Set(logLines(original.toString('utf8')).map(({ text }) => text));
    const known = new Set(
      readLines(original.toString('utf8')).lines.map(({ text, found }) => keyOf(text, found)),
    );
    for (const { what, bytes } of damagedInputs(original, 20260401)) {
      const { lines } = readLines(bytes.toString('utf8'));
      for (const { text, found } of lines) {
        if (known.has(keyOf(text, found))) continue;
        // Where a line goes on with those before it, they may be the ones that were damaged.
        if (found.type === 'oom_kill' || found.type === 'pcie_aer' || found.type === 'hardware_error')
          continue;
        expect(intact.has(text), `${what}: ${text}`).toBe(false);
        // What was not damaged away is read from the line itself, and nothing else.
        if (/^\d+$/.test(found.code)) expect(text, what).toContain(`: ${found.code}`);
        if (found.pci !== undefined) expect(text.toLowerCase(), what).toContain(found.pci.slice(-7, -2));
        for (const [name, value] of Object.entries(found.details ?? {}))
          if (!DERIVED.has(name)) expect(text, `${what}: ${name}`).toContain(value);
      }
    }
  });
});

/** Concluded from the line's words, not copied. */
const DERIVED = new Set(['investigate', 'driver_severity', 'bits', 'from', 'to', 'kind']);

function keyOf(text: string, found: object): string {
  return `${text}\n${JSON.stringify(found)}`;
}
