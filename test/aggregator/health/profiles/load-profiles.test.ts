import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  builtInProfiles,
  loadProfiles,
  MAX_PROFILE_BYTES,
  MAX_PROFILES,
} from '../../../../aggregator/health/profiles/load-profiles.ts';
import { SIGNAL_NAMES } from '../../../../aggregator/health/profiles/names.ts';
import { tempDir } from '../../../support/temp.ts';

const GIB = 2 ** 30;

async function directoryOf(files: Readonly<Record<string, string>>) {
  const dir = await tempDir();
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir.path, name), text);
  return dir;
}

async function faultsOf(files: Readonly<Record<string, string>>): Promise<string> {
  await using dir = await directoryOf(files);
  return await loadProfiles(dir.path).then(
    () => '',
    (error: Error) => error.message,
  );
}

describe('the profiles that come with the product', () => {
  it.each([
    ['NVIDIA A100-SXM4-80GB', 'a100'],
    ['NVIDIA A100 80GB PCIe', 'a100'],
    ['NVIDIA H100 80GB HBM3', 'h100'],
    ['nvidia h200', 'h200'],
    ['NVIDIA B200', 'b200'],
    ['NVIDIA GB200', 'b200'],
    ['NVIDIA L40S', 'l40s'],
    ['AMD Instinct MI250X', 'mi250x'],
    ['AMD Instinct MI300X', 'mi300x'],
    ['NVIDIA GeForce RTX 4090', 'generic'],
    ['NVIDIA A1000', 'generic'],
    ['', 'generic'],
  ])('judge %s by %s', (model, name) => {
    expect(builtInProfiles().choose(model, Number.NaN).name).toBe(name);
  });

  it('weigh every signal, once, with a source for each figure: a threshold that nobody can trace is not believed', () => {
    const generic = builtInProfiles().named('generic')!;
    expect(generic.signals.map(({ name }) => name)).toEqual([...SIGNAL_NAMES]);
    for (const name of builtInProfiles().names) {
      const { signals, limits, limitSources } = builtInProfiles().named(name)!;
      for (const { source, caps } of signals)
        for (const one of [source, ...caps.map((cap) => cap.source)]) expect(one).not.toBe('');
      for (const [limit, value] of Object.entries(limits))
        expect(limitSources[limit as keyof typeof limits] !== undefined).toBe(!Number.isNaN(value));
    }
  });

  it('have the limits of their models, and none where nobody knows', () => {
    const of = (name: string) => builtInProfiles().named(name)!;
    expect(of('h100').limits).toMatchObject({ max_operating_celsius: 87, power_watts: 700, link_count: 18 });
    expect(of('mi300x').limits).toMatchObject({ hotspot_slowdown_celsius: 100, memory_max_celsius: 105 });
    expect(of('b200').limits).toMatchObject({ slowdown_celsius: Number.NaN, memory_max_celsius: Number.NaN });
    expect(of('h200').limitSources.max_operating_celsius).toContain('unverified');
    expect(of('l40s').signals.some(({ name }) => name === 'link_down')).toBe(false);
  });
});

describe('own profiles', () => {
  it('add a model, with all that they do not say from generic', async () => {
    await using dir = await directoryOf({
      'own.yaml': `name: gb300
version: 3
match: { model: GB300 }
signals:
  memory_margin: { weight: 0.9, weight_source: our own burn-in }
`,
    });
    const profile = (await loadProfiles(dir.path)).choose('NVIDIA GB300', Number.NaN);
    expect(profile).toMatchObject({ name: 'gb300', version: 3 });
    const rule = profile.signals.find(({ name }) => name === 'memory_margin')!;
    expect(rule).toMatchObject({ weight: 0.9, points: [15, 8, 3, 0], dimension: HealthDimension.THERMAL });
    expect(profile.signals).toHaveLength(SIGNAL_NAMES.length);
  });

  it('change one that comes with the product, and leave the rest of it', async () => {
    await using dir = await directoryOf({
      'h100.yml': `name: h100
version: 7
extends: h100
limits: { max_operating_celsius: { value: 80, source: our data centre } }
`,
    });
    const profile = (await loadProfiles(dir.path)).choose('NVIDIA H100 PCIe', Number.NaN);
    expect(profile).toMatchObject({ name: 'h100', version: 7 });
    expect(profile.limits).toMatchObject({ max_operating_celsius: 80, memory_max_celsius: 95 });
  });

  it('tell two sizes of one model apart', async () => {
    await using dir = await directoryOf({
      'a.yaml': 'name: a100-any\nversion: 1\nmatch: { model: A100 }\n',
      'b.yaml': 'name: a100-40\nversion: 1\nmatch: { model: A100, memory_gib: [35, 45] }\n',
    });
    const profiles = await loadProfiles(dir.path);
    expect(profiles.choose('NVIDIA A100', 40 * GIB).name).toBe('a100-40');
    expect(profiles.choose('NVIDIA A100', 80 * GIB).name).toBe('a100-any');
    expect(profiles.choose('NVIDIA A100', Number.NaN).name).toBe('a100-any');
  });

  it('change generic for every model', async () => {
    await using dir = await directoryOf({
      'generic.yaml': 'name: generic\nversion: 2\nsignals: { agent_gaps: { enabled: false } }\n',
    });
    const profiles = await loadProfiles(dir.path);
    for (const name of profiles.names)
      expect(profiles.named(name)!.signals).not.toContainEqual(
        expect.objectContaining({ name: 'agent_gaps' }),
      );
  });
});

// Lost without it: an aggregator that one GPU's name brings to a stop, by an expression that somebody wrote in good faith.
it('a name on which an expression would backtrack for ever is read in an instant', async () => {
  await using dir = await directoryOf({
    'own.yaml': "name: own\nversion: 1\nmatch: { model: '^((a|a)*)*b$' }\n",
  });
  const profiles = await loadProfiles(dir.path);
  expect(profiles.choose('a'.repeat(1_000), Number.NaN).name).toBe('generic');
  expect(profiles.choose(`${'A'.repeat(50)}b`, Number.NaN).name).toBe('own');
});

describe('a fault in a profile', () => {
  it('is named with its file and place, all of them at once: nobody wants to fix them one by one', async () => {
    const text = await faultsOf({
      'bad.yaml': `name: bad
version: 0
match: { model: '(' }
limits: { power_watts: { value: 300 } }
signals:
  core_margin: { points: [1, 3, 2, 4], points_source: mine }
  memory_margin: { weight: 2 }
  no_such_signal: { weight: 1 }
`,
      'worse.yaml': 'name: [',
    });
    for (const part of [
      'bad.yaml: version',
      'bad.yaml: match.model',
      'bad.yaml: limits.power_watts.source',
      'bad.yaml: signals.core_margin.points',
      'bad.yaml: signals.memory_margin.weight',
      'bad.yaml: signals.no_such_signal',
      'worse.yaml: yaml',
    ])
      expect(text).toContain(part);
  });

  it.each([
    ['a figure without a source', 'signals: { xid: { points: [0, 1, 2, 3] } }', 'points need points_source'],
    ['a profile that is not there', 'extends: nobody', 'there is no profile nobody'],
    [
      'a log scale from 0',
      'signals: { corrected_ecc: { points: [0, 1, 2, 3], points_source: x } }',
      'over 0',
    ],
    [
      'a cap where the signal is good',
      'signals: { core_margin: { caps: [{ from: 20, score: 10, source: x }] } }',
      'would hold the score where the signal is good',
    ],
    ['a number that is a text', 'limits: { power_watts: { value: "300", source: x } }', 'must be a number'],
    ['no number at all', 'limits: { power_watts: { value: .inf, source: x } }', 'must be a finite number'],
    ['an expression that looks back', "match: { model: '(a)\\1' }", 'is not a regular expression'],
    ['half an expression', "match: { model: 'a)(b' }", 'is not a regular expression'],
    [
      'a text that unfolds without end',
      `match: &a [${'x, '.repeat(20)}]\nb: &b [${'*a, '.repeat(20)}]\nc: &c [${'*b, '.repeat(20)}]\nd: [${'*c, '.repeat(20)}]`,
      'alias',
    ],
  ])('such as %s', async (_, line, message) => {
    expect(await faultsOf({ 'own.yaml': `name: own\nversion: 1\n${line}\n` })).toContain(message);
  });

  it('such as a circle, or one name in two files', async () => {
    const one = (name: string, parent: string) => `name: ${name}\nversion: 1\nextends: ${parent}\n`;
    expect(await faultsOf({ 'a.yaml': one('a', 'b'), 'b.yaml': one('b', 'a') })).toContain('circle');
    expect(await faultsOf({ 'a.yaml': one('a', 'h100'), 'b.yaml': one('a', 'h100') })).toContain(
      'is also in',
    );
  });

  it('such as a directory that is not there, one with too many, or a file that is too large', async () => {
    await expect(loadProfiles('/no/such/folder')).rejects.toThrow('Cannot read the profiles');
    expect(await faultsOf({ 'a.yaml': `#${' '.repeat(MAX_PROFILE_BYTES)}` })).toContain('is larger than');
    const all = Object.fromEntries(
      Array.from({ length: MAX_PROFILES - 7 }, (_, i) => [`p${i}.yaml`, `name: p${i}\nversion: 1\n`]),
    );
    expect(await faultsOf(all)).toContain('are allowed');
  });
});
