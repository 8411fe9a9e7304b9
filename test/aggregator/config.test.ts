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

// Lost without it: a store that is written to without the credentials that the file was meant to name.
test('the store section: cluster, credentials, TLS; what cannot be used is said with its path', async () => {
  await using dir = tempDir();
  const token = join(dir.path, 'token');
  await writeFile(token, 'secret\n');
  const { store } = await load(`store:
  url: http://vminsert:8480/insert/0/prometheus
  read_url: http://vmselect:8481/select/0/prometheus
  processes: [http://vminsert:8480, http://vmstorage-1:8482/metrics?authKey=k]
  bearer_token_file: ${token}
`);
  expect(store?.processes).toHaveLength(2);
  await expect(load('store: { url: "http://u:p@store" }')).rejects.toThrow(
    /store\.url: must not hold a user or password/,
  );
  await expect(load('store: { url: "http://store", headers: { a: b } }')).rejects.toThrow(
    /store\.headers: there is no such setting/,
  );
  await expect(load('store: { url: "http://store", bearer_token_file: /nowhere }')).rejects.toThrow(
    /store: Cannot read \/nowhere/,
  );
});
