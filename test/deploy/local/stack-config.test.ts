import { readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { check } from '#shared/config/load-config.ts';
import { agentConfigSchema } from '../../../agent/config.ts';
import { aggregatorConfigSchema } from '../../../aggregator/config.ts';
import { type StackSettings, writeStackConfig } from '../../../deploy/local/stack-config.ts';
import { tempDir } from '../../support/temp.ts';

const PORTS = { ingest: 7400, api: 7480, agent: 9400, victoriaMetrics: 8428, nats: 4222 };

const settings = (data: string, change: Partial<StackSettings> = {}): StackSettings => ({
  data,
  source: { nodes: 1 },
  interval: '1s',
  logLevel: 'info',
  ports: PORTS,
  victoriaMetrics: 'http://127.0.0.1:8428',
  nats: 'nats://127.0.0.1:4222',
  ...change,
});

// Lost without it: npm start writes a setting that the programs refuse, and the first try of a user ends there.
test.each([
  ['a simulated node', {}],
  ['many nodes', { source: { nodes: 100 } }],
  ['an exporter', { source: { url: 'http://gpu-7:9400/metrics' }, interval: '500ms' }],
  ['this host', { source: { host: 'this host' } }],
  ['embedded', { victoriaMetrics: undefined, nats: undefined }],
])('what is written for %s is what agent and aggregator take', async (_name, change) => {
  await using dir = tempDir('config');
  const files = writeStackConfig(settings(dir.path, change));
  expect(check(agentConfigSchema, parse(readFileSync(files.agent, 'utf8'))).faults).toBeUndefined();
  const aggregator = check(aggregatorConfigSchema, parse(readFileSync(files.aggregator, 'utf8')));
  expect(aggregator.faults).toBeUndefined();
  expect(aggregator.output?.store === undefined).toBe('victoriaMetrics' in change);
});

test('tokens are made once, for the owner alone, and the viewer of them is who scrapes', async () => {
  await using dir = tempDir('config');
  const files = writeStackConfig(settings(dir.path));
  const first = readFileSync(files.tokens, 'utf8');
  expect(first.match(/^(viewer|operator|agent) [\w-]{32} /gm)).toHaveLength(3);
  for (const file of [files.tokens, files.scrape]) expect(statSync(file).mode & 0o077).toBe(0);
  writeStackConfig(settings(dir.path));
  expect(readFileSync(files.tokens, 'utf8')).toBe(first);
  expect(first).toContain(
    `viewer ${parse(readFileSync(files.scrape, 'utf8')).scrape_configs[0].bearer_token} `,
  );
});
