import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { importRules } from '../../aggregator/alerts/rules/import/import-rules.ts';
import { findServer, VMALERT } from '../../deploy/local/servers.ts';
import { ROOT, skipLoudly } from '../support/data.ts';

const FOLDER = join(ROOT, 'deploy/vmalert');
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));

interface StoreRule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const RULES = FILES.flatMap((name) => {
  const { groups } = parse(readFileSync(join(FOLDER, name), 'utf8')) as { groups: { rules: StoreRule[] }[] };
  return groups.flatMap(({ rules }) => rules);
});

// Lost without it: rules that a site installs and that vmalert refuses to start with.
test('vmalert reads the shipped rules', async () => {
  const { binary } = await findServer(VMALERT, { log: () => {} });
  if (binary === undefined) return skipLoudly('vmalert is not to be had: its rules are not checked');
  const run = promisify(execFile);
  await expect(run(binary, [`-rule=${FOLDER}/*.yaml`, '-dryRun'])).resolves.toBeDefined();
  await expect(run(binary, [`-rule=${FOLDER}/README.md`, '-dryRun'])).rejects.toThrow();
});

// Lost without it: a rule that waits for ever for a series that nobody writes.
test('they look at series that there are', () => {
  const recorded = new Set(RULES.flatMap(({ record }) => record ?? []));
  const sources =
    readFileSync(join(ROOT, 'aggregator/ledger/dead-letters.ts'), 'utf8') +
    ['alert-instruments.ts', 'rules/rule-files.ts']
      .map((name) => readFileSync(join(ROOT, 'aggregator/alerts', name), 'utf8'))
      .join('');
  const named = RULES.flatMap(({ expr }) => expr.match(/\b(?:gpu|gpufleet)[_:][\w:]+/g) ?? []);
  const unknown = named.filter(
    (name) => metricNamed(name) === undefined && !recorded.has(name) && !sources.includes(`'${name}'`),
  );
  expect(new Set(named).size).toBeGreaterThan(15);
  expect(unknown).toEqual([]);
});

test('alerts have a severity and say what to do', () => {
  for (const { alert, labels, annotations } of RULES.filter((rule) => rule.alert !== undefined)) {
    expect(['info', 'warning', 'critical'], alert).toContain(labels?.severity);
    expect(annotations?.summary?.length, alert).toBeGreaterThan(10);
    expect(annotations?.description?.length, alert).toBeGreaterThan(10);
  }
});

// What the stream can answer belongs into the stream's rules: there it takes milliseconds.
test('none of them asks what the stream could answer, but of the aggregator itself', () => {
  const history = readFileSync(join(FOLDER, 'history.yaml'), 'utf8');
  const translated = importRules(history, 'history.yaml').imported.filter(({ rules }) => rules.length > 0);
  expect(translated.map(({ group }) => group).filter((group) => group !== 'gpufleet-self')).toEqual([]);
});
