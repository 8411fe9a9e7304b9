import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadAgentConfig } from '../../agent/config.ts';
import { tempDir } from '../support/temp.ts';

async function load(yaml: string, environment: Parameters<typeof loadAgentConfig>[1] = {}) {
  await using dir = tempDir();
  const file = join(dir.path, 'agent.yaml');
  await writeFile(file, yaml);
  return await loadAgentConfig(file, environment);
}
const SIMULATED = 'collectors: { simulated: {} }\n';

test('a small file is enough: everything else has a default', async () => {
  const config = await load(`${SIMULATED}cluster: east\nnode: gpu-7.example\n`);
  expect(config).toMatchObject({
    cluster: 'east',
    node: 'gpu-7.example',
    collection_interval: 10_000,
    aggregators: [{ host: '127.0.0.1', port: 7400 }],
    exporter: { listen: { host: '127.0.0.1', port: 9400 }, metrics_path: '/metrics' },
    buffer: { max_age: 86_400_000 },
  });
  expect(config.machine_id).not.toBe('');
});

test('every fault is said at once, with its path, file and environment together', async () => {
  const error = await load(
    `
cluster: "two words"
collection_interval: fast
aggregators: [nowhere]
external_labels: { node: x }
exporter: { listen: "127.0.0.1:99999" }
colectors: {}
collectors: { dcgm_exporter: { naming: nice, url: ftp } }
`,
    { EXPORTER_PORT: 'many', LOG_LEVEL: 'LOUD' },
  ).catch((caught: Error) => caught.message);
  for (const part of [
    'cluster: must be 1 to 253 printable',
    'collection_interval: must be a duration',
    'aggregators.0: must be host:port, and is "nowhere"',
    'external_labels: must not set cluster, node',
    'exporter.listen: must be host:port',
    'colectors: there is no such setting',
    'collectors.dcgm_exporter.url: must be',
    'collectors.dcgm_exporter.naming: must be canonical, dcgm or both',
    'environment EXPORTER_PORT: must be a port, and is "many"',
    'log_level: must be one of',
  ]) {
    expect(error).toContain(part);
  }
});

describe('the environment wins over the file', () => {
  test('as people know it from other exporters', async () => {
    const config = await load(
      `${SIMULATED}exporter: { listen: "0.0.0.0:9000" }\ncollection_interval: 30s\n`,
      {
        EXPORTER_PORT: '9555',
        METRICS_PATH: '/gpu',
        COLLECTION_INTERVAL: '500',
        LOG_LEVEL: 'DEBUG',
      },
    );
    expect(config).toMatchObject({
      exporter: { listen: { host: '0.0.0.0', port: 9555 }, metrics_path: '/gpu' },
      collection_interval: 500,
      log_level: 'debug',
    });
  });
});

// Lost without it: an agent that is installed with no word of configuration collects nothing.
test('no collector named is no fault: the agent looks for what the node has, but for what is set to false', async () => {
  expect((await load('node: a')).collectors).toEqual({});
  expect((await load('collectors: { dcgm_exporter: false }')).collectors).toEqual({ dcgm_exporter: false });
});

test('a source with nothing behind it has its defaults', async () => {
  const { collectors } = await load('collectors:\n  simulated:\n');
  expect(collectors.simulated).toMatchObject({ gpus: 8, model: 'H100' });
});

test('what is not YAML, and what is not there, are said in one sentence', async () => {
  await expect(load('a: [1')).rejects.toThrow(/Cannot use .*agent.yaml/);
  await expect(loadAgentConfig('/nowhere/agent.yaml', {})).rejects.toThrow('Cannot read /nowhere/agent.yaml');
});
