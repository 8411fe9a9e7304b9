import { execFileSync } from 'node:child_process';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { RuleBook, readRules } from '../../../../aggregator/alerts/rules/rule-files.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { ManualClock, START_MS } from '../block-of.ts';

const rules = (...lines: readonly string[]) => `rules:\n${lines.map((line) => `  - ${line}\n`).join('')}`;
const A = '{ name: a, event: xid }';
const B = '{ name: b, event: xid }';

async function bookOf(file: string | undefined) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const book = await RuleBook.open({ file, clock, registry, logger: silentLogger });
  const taken: string[][] = [];
  book.onChange((set) => void taken.push(set.rules.map(({ name }) => name)));
  return { book, clock, registry, taken };
}

async function fileIn(dir: TempDir, text: string, name = 'rules.yaml'): Promise<string> {
  const path = join(dir.path, name);
  await writeFile(path, text);
  return path;
}

describe('a reload', () => {
  it.each([
    ['of the same', rules(A, B), { added: [], changed: [], removed: [] }],
    ['of the same in another order', rules(B, A), { added: [], changed: [], removed: [] }],
    ['with one more', rules(A, B, '{ name: c, event: xid }'), { added: ['c'], changed: [], removed: [] }],
    [
      'with another severity',
      rules('{ name: a, event: xid, severity: info }', B),
      { added: [], changed: ['a'], removed: [] },
    ],
    [
      'with other codes',
      rules('{ name: a, event: xid, codes: [79] }', B),
      { added: [], changed: ['a'], removed: [] },
    ],
    ['with one less', rules(A), { added: [], changed: [], removed: ['b'] }],
    [
      'with one switched off',
      rules(A, '{ name: b, event: xid, enabled: false }'),
      { added: [], changed: [], removed: ['b'] },
    ],
    ['with one renamed', rules(A, '{ name: c, event: xid }'), { added: ['c'], changed: [], removed: ['b'] }],
  ])('%s is taken and says what changed', async (_, text, diff) => {
    await using dir = tempDir('rules');
    const file = await fileIn(dir, rules(A, B));
    const { book, clock, taken } = await bookOf(file);
    await writeFile(file, text);
    clock.ms = START_MS + 5000;
    expect(await book.reload()).toEqual({ ok: true, ...diff });
    expect(book.loadedAtMs).toBe(START_MS + 5000);
    expect(taken).toEqual([book.current.rules.map(({ name }) => name)]);
  });

  // The file that an editor left half written at three in the morning.
  it.each([
    ['that is not YAML', 'rules: [', /rules.yaml:1:\d+: Flow sequence/],
    [
      'with a fault',
      rules(A, '{ name: b, event: xid, severity: loud }'),
      /rules.yaml:3:38: rules\[1\].severity: must be/,
    ],
    ['that is empty', '', /rules: is missing/],
    ['that is gone', undefined, /ENOENT/],
  ])('of a file %s changes nothing that runs, and says why until it is mended', async (_, text, why) => {
    await using dir = tempDir('rules');
    const file = await fileIn(dir, rules(A, B));
    const { book, clock, registry, taken } = await bookOf(file);
    const before = book.current;
    if (text === undefined) await rm(file);
    else await writeFile(file, text);
    clock.ms = START_MS + 5000;
    const reload = await book.reload();
    expect(reload).toEqual({ ok: false, why: expect.stringMatching(why) });
    expect(book.fault).toMatch(why);
    expect([book.current, book.loadedAtMs, taken]).toEqual([before, START_MS, []]);
    const text1 = await registry.metrics();
    expect(text1).toContain('gpufleet_alert_rules_reloads_total{outcome="failed"} 1');
    expect(text1).toContain('gpufleet_alert_rules_loaded{kind="event"} 2');
    expect(text1).toContain('gpufleet_alert_rules_faulty 1');

    await writeFile(file, rules(A));
    expect(await book.reload()).toMatchObject({ ok: true, removed: ['b'] });
    expect(book.fault).toBe('');
    const text2 = await registry.metrics();
    expect(text2).toContain('gpufleet_alert_rules_reloads_total{outcome="ok"} 1');
    expect(text2).toContain('gpufleet_alert_rules_faulty 0');
  });

  it('waits for one that goes on: of two, the later one sees what the earlier took', async () => {
    await using dir = tempDir('rules');
    const file = await fileIn(dir, rules(A));
    const { book } = await bookOf(file);
    await writeFile(file, rules(A, B));
    expect(await Promise.all([book.reload(), book.reload()])).toEqual([
      { ok: true, added: ['b'], changed: [], removed: [] },
      { ok: true, added: [], changed: [], removed: [] },
    ]);
  });

  // An editor that writes slowly: the first half of a file is a whole one, without the rules of the second.
  it('does not take what is written while it is read', async () => {
    await using dir = tempDir('rules');
    const file = await fileIn(dir, rules(A, B));
    const { book } = await bookOf(file);
    await rm(file);
    execFileSync('mkfifo', [file]);
    const reload = book.reload();
    await writeFile(file, rules(A));
    expect(await reload).toEqual({ ok: false, why: expect.stringMatching('are being written') });
    await rm(file);
    await writeFile(file, rules(A));
    await book.reloadIfChanged();
    expect(book.current.rules.map(({ name }) => name)).toEqual(['a']);
  });

  it('is told to the others where one listener throws', async () => {
    await using dir = tempDir('rules');
    const { book } = await bookOf(await fileIn(dir, rules(A)));
    const told: number[] = [];
    book.onChange(() => {
      throw new Error('a fault of ours');
    });
    book.onChange(({ rules }) => void told.push(rules.length));
    expect(await book.reload()).toMatchObject({ ok: true });
    expect(await book.reload()).toMatchObject({ ok: true });
    expect(told).toEqual([1, 1]);
  });

  it('is told to nobody who no longer listens', async () => {
    await using dir = tempDir('rules');
    const { book } = await bookOf(await fileIn(dir, rules(A)));
    let told = 0;
    book.onChange(() => void told++)[Symbol.dispose]();
    await book.reload();
    expect(told).toBe(0);
  });
});

describe('a folder of rules', () => {
  it('is read in the order of its names, without what is hidden or no YAML', async () => {
    await using dir = tempDir('rules');
    await fileIn(dir, rules(B), '20-site.yaml');
    await fileIn(dir, rules(A), '10-pack.yml');
    await fileIn(dir, 'not yaml: [', 'notes.txt');
    await fileIn(dir, 'rules: [', '.20-site.yaml.swp.yaml');
    await mkdir(join(dir.path, '..2026'));
    expect((await readRules(dir.path)).rules.map(({ name }) => name)).toEqual(['a', 'b']);
    const { book } = await bookOf(dir.path);
    await rename(join(dir.path, '20-site.yaml'), join(dir.path, '20-site.off'));
    expect(await book.reload()).toMatchObject({ ok: true, removed: ['b'] });
  });

  it('may count alerts of a rule in another file', async () => {
    await using dir = tempDir('rules');
    await fileIn(dir, rules(A), 'z.yaml');
    const group =
      '{ name: many, aggregate: { count_of: a, by: rack }, severities: [{ severity: info, above: 3 }] }';
    await fileIn(dir, rules(group), 'a.yaml');
    expect((await readRules(dir.path)).rules).toHaveLength(2);
  });

  it('with one name in two files is refused, and says which; so are all faults of all files', async () => {
    await using dir = tempDir('rules');
    const first = await fileIn(dir, rules(A), 'one.yaml');
    const second = await fileIn(dir, rules(B, A), 'two.yaml');
    await expect(readRules(dir.path)).rejects.toThrow(
      `Cannot read alert rules ${dir.path}:\n  ${second}:3:13: rules[1].name: "a" is there twice, also in ${first}`,
    );
    await fileIn(dir, 'rules: 5', 'one.yaml');
    await fileIn(dir, 'rules: 6', 'two.yaml');
    await expect(readRules(dir.path)).rejects.toThrow(/one.yaml:1:8: .*\n.*two.yaml:1:8: /);
  });

  it('without a file is refused: an empty mount must not switch all alerts off', async () => {
    await using dir = tempDir('rules');
    await expect(readRules(dir.path)).rejects.toMatchObject({ code: 'invalid_config' });
    for (let i = 0; i < 101; i++) await fileIn(dir, 'rules: []', `${i}.yaml`);
    await expect(readRules(dir.path)).rejects.toThrow('more than 100 files');
  });
});

it('without a file the shipped rules run', async () => {
  const { book, registry } = await bookOf(undefined);
  expect(book.current.rules.map(({ name }) => name)).toContain('gpu-temperature');
  expect(book.loadedAtMs).toBe(START_MS);
  expect(await registry.metrics()).toContain(`loaded_timestamp_seconds ${START_MS / 1000}`);
});

it('nothing starts on rules with a fault', async () => {
  await using dir = tempDir('rules');
  const file = await fileIn(dir, 'rules: 5');
  await expect(bookOf(file)).rejects.toMatchObject({ code: 'invalid_config' });
});
