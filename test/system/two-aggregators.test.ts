import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { startNats } from '../support/nats-server.ts';
import { freePort } from '../support/ports.ts';
import { type Child, startProgram } from '../support/process.ts';
import { hasNatsServer } from '../support/servers.ts';
import { tempDir } from '../support/temp.ts';
import { startTextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const page = (celsius: number): string =>
  `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",modelName="NVIDIA H100"} ${celsius}\n`;

interface Told {
  readonly status: string;
  readonly groupLabels: Record<string, string>;
  readonly alerts: readonly { readonly status: string; readonly labels: Record<string, string> }[];
}

async function startWebhook() {
  const told: Told[] = [];
  const keys: string[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += String(part);
    told.push(JSON.parse(text) as Told);
    keys.push(String(request.headers['idempotency-key']));
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    ...{ told, keys },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** One aggregator and an agent of its own, with one GPU whose temperature can be changed. */
async function startShard(dir: string, name: string, nats: string, notify: string) {
  const ports = { ingest: await freePort(), api: await freePort(), agent: await freePort() };
  const exporter = await startTextServer(page(50));
  const children: Child[] = [];
  const start = async (program: 'aggregator' | 'agent', config: object, port: number): Promise<Child> => {
    const file = join(dir, `${name}-${program}.yaml`);
    await writeFile(file, stringify(config));
    const child = await startProgram(`${program}/main.ts`, { args: ['--config', file] });
    children.push(child);
    await until(async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok, {
      timeoutMs: 30_000,
      what: `the ${program} of ${name} is ready`,
      hopeless: () => child.exit && child.lastLines(10),
      detail: () => child.lastLines(10),
    });
    return child;
  };
  const aggregator = await start(
    'aggregator',
    {
      ...{ cluster: 'test', shard: name, data_dir: join(dir, `${name}-aggregator`) },
      nats: { servers: [nats] },
      alerts: { rules: join(dir, 'rules.yaml'), notify },
      ingest: { listen: `127.0.0.1:${ports.ingest}` },
      api: { listen: `127.0.0.1:${ports.api}` },
    },
    ports.api,
  );
  await start(
    'agent',
    {
      ...{ cluster: 'test', node: `node-${name}`, machine_id: `machine-${name}` },
      ...{ data_dir: join(dir, `${name}-agent`), aggregators: [`127.0.0.1:${ports.ingest}`] },
      exporter: { listen: `127.0.0.1:${ports.agent}` },
      collection_interval: '200ms',
      collectors: { dcgm_exporter: { url: exporter.url } },
    },
    ports.agent,
  );
  return {
    aggregator,
    heat: (celsius: number): void => {
      exporter.text = page(celsius);
    },
    async leads(): Promise<boolean> {
      const text = await (await fetch(`http://127.0.0.1:${ports.api}/metrics`)).text();
      return /^gpufleet_notifier_leader 1$/m.test(text);
    },
    async [Symbol.asyncDispose]() {
      for (const child of children.toReversed()) await child.stop(8_000);
      await exporter[Symbol.asyncDispose]();
    },
  };
}

describe.skipIf(!hasNatsServer())('two aggregators over one NATS', () => {
  // Lost without it: each tells people the same, or both leave it to the other.
  test('tell people of the alerts of both at once; when the one that tells is killed, the other goes on where it was', {
    timeout: 120_000,
  }, async () => {
    await using dir = tempDir('two');
    await using nats = await startNats();
    await using webhook = await startWebhook();
    const { told } = webhook;
    const rules = {
      rules: [
        {
          name: 'hot',
          metric: 'gpu_temperature_celsius',
          labels: { sensor: 'core' },
          severities: [{ severity: 'critical', above: 90 }],
          clear: 2,
        },
      ],
    };
    await writeFile(join(dir.path, 'rules.yaml'), stringify(rules));
    const notify = join(dir.path, 'notify.yaml');
    await writeFile(
      notify,
      stringify({
        route: { receiver: 'people', group_by: ['cluster', 'rule'], group_wait: '3s', group_interval: '2s' },
        receivers: [{ name: 'people', webhook: [{ url: webhook.url }] }],
      }),
    );
    await using a = await startShard(dir.path, 'a', nats.url, notify);
    await using b = await startShard(dir.path, 'b', nats.url, notify);
    await until(async () => (await a.leads()) || (await b.leads()), {
      timeoutMs: 30_000,
      what: 'one of them tells people',
    });
    const leader = (await a.leads()) ? a : b;
    const other = leader === a ? b : a;

    a.heat(97);
    b.heat(97);
    await until(() => told.some(({ alerts }) => alerts.length === 2), {
      timeoutMs: 30_000,
      what: 'people hear of both GPUs',
      detail: () => `${JSON.stringify(told)}\n${leader.aggregator.lastLines(10)}`,
    });
    // Both within the time that a group waits: one notification, and nothing of one alone before it.
    expect(told).toMatchObject([{ status: 'firing', groupLabels: { cluster: 'test', rule: 'hot' } }]);
    expect(told[0]!.alerts.map(({ labels }) => labels.node).sort()).toEqual(['node-a', 'node-b']);
    expect([await leader.leads(), await other.leads()]).toEqual([true, false]);

    await leader.aggregator.kill9();
    // While nobody tells: it must be told by whoever is next.
    other.heat(50);
    await until(() => other.leads(), {
      timeoutMs: 40_000,
      what: 'the other takes over',
      detail: () => other.aggregator.lastLines(10),
    });
    await until(() => told.length > 1, {
      timeoutMs: 20_000,
      what: 'people hear of what changed meanwhile',
      detail: () => other.aggregator.lastLines(10),
    });
    // Again hot: an end and a new beginning, and each is told once.
    other.heat(97);
    await until(() => told.length > 2, { timeoutMs: 20_000, what: 'people hear of the next one' });
    const statuses = told.map(({ alerts }) =>
      alerts.map(({ status, labels }) => `${labels.node} ${status}`).sort(),
    );
    const [own, lost] = other === a ? ['node-a', 'node-b'] : ['node-b', 'node-a'];
    expect(statuses.slice(1).map((each) => each.filter((text) => text.startsWith(own!)))).toEqual([
      [`${own} resolved`],
      [`${own} firing`],
    ]);
    // The killed one's alert was told by it, still fires, and must not be told to have ended.
    expect(statuses.flat()).not.toContain(`${lost} resolved`);
    expect(new Set(webhook.keys).size, 'none is told twice').toBe(webhook.keys.length);
  });
});
