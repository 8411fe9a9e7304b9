import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadAggregatorConfig } from '../../aggregator/config.ts';
import { tempDir } from '../support/temp.ts';

async function load(yaml: string) {
  await using dir = tempDir();
  const file = join(dir.path, 'aggregator.yaml');
  await writeFile(file, yaml);
  return await loadAggregatorConfig(file, {});
}

test('an empty file is a good one: embedded, on loopback', async () => {
  expect(await load('')).toMatchObject({
    ingest: { listen: { host: '127.0.0.1', port: 7400 } },
    api: { listen: { port: 7480 } },
    log_level: 'info',
  });
});

test('listening beyond loopback without asking anybody is a fault, unless it was meant', async () => {
  const open = 'ingest: { listen: "0.0.0.0:7400" }\napi: { listen: "0.0.0.0:7480" }\n';
  await expect(load(open)).rejects.toThrow(
    /2 faults[\s\S]*ingest\.listen: 0\.0\.0\.0:7400 is not loopback[\s\S]*api\.listen/,
  );
  await expect(load('api: { listen: "0.0.0.0:7480", tokens: /t, anonymous_read: true }')).rejects.toThrow(
    /api\.listen/,
  );
  await load(
    'ingest: { listen: "0.0.0.0:7400", tokens: /t }\napi: { listen: "0.0.0.0:7480", allow_unauthenticated: true }\n',
  );
});

test('every fault at once, with its path', async () => {
  const message = await load(
    'store: { url: nowhere }\nnats: { servers: [] }\nlog_level: loud\nport: 5\n',
  ).catch((error: Error) => error.message);
  for (const part of [
    'store.url: must be an http',
    'nats.servers: must name at least one',
    'log_level: must be one of',
    'port: there is no such setting',
  ]) {
    expect(message).toContain(part);
  }
});
