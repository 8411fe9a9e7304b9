import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect } from '@nats-io/transport-node';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { FleetStack } from '../support/fleet-stack.ts';
import { startProgram } from '../support/process.ts';
import { hasNatsServer, hasVictoriaMetrics } from '../support/servers.ts';
import { tempDir } from '../support/temp.ts';
import { startTextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const TOKEN = 'operators-own-token-0123456789';
const page = (celsius: number): string =>
  `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",modelName="NVIDIA H100"} ${celsius}\n`;
const ruleAt = (limit: number) => ({
  rules: [
    {
      name: 'hot',
      summary: 'GPU temperature',
      metric: 'gpu_temperature_celsius',
      labels: { sensor: 'core' },
      severities: [{ severity: 'critical', above: limit }],
      clear: 2,
      annotations: { description: 'GPU {{ gpu }} of {{ node }} in rack {{ labels.rack }} is hot' },
    },
  ],
});

interface Told {
  readonly path: string;
  readonly body: { status?: string; alerts?: { labels: Record<string, string> }[]; ok?: boolean };
  readonly key: string | undefined;
}

/** Whoever is called from outside: a webhook of the notifier, one of an action, a heartbeat service. */
async function startOutside() {
  const told: Told[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += String(part);
    const key = request.headers['idempotency-key'];
    told.push({
      path: request.url ?? '',
      body: JSON.parse(text),
      key: typeof key === 'string' ? key : undefined,
    });
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    told,
    to: (path: string) => told.filter((one) => one.path === path),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe.skipIf(!hasNatsServer() || !hasVictoriaMetrics())('from a hot GPU to people and machines', () => {
  // Lost without it: each part works, and nobody is told.
  test('told once, silenced, acknowledged, acted on after a word, audited; rules change while it runs', {
    timeout: 180_000,
  }, async () => {
    await using dir = tempDir('alerting');
    await using outside = await startOutside();
    await using exporter = await startTextServer(page(50));
    const file = (name: string): string => join(dir.path, name);
    await writeFile(file('tokens'), `operator ${TOKEN} mina\n`, { mode: 0o600 });
    await writeFile(file('rules.yaml'), stringify(ruleAt(90)));
    const secret = file('secret');
    await writeFile(secret, 'a-secret-of-twenty-four-bytes', { mode: 0o600 });
    await writeFile(
      file('notify.yaml'),
      stringify({
        route: { receiver: 'people', group_by: ['cluster', 'rule'], group_wait: '1s', group_interval: '2s' },
        receivers: [{ name: 'people', webhook: [{ url: `${outside.url}/people`, secret_file: secret }] }],
      }),
    );
    await writeFile(
      file('actions.yaml'),
      stringify({
        mode: 'live',
        policies: [
          {
            name: 'mark-hot',
            matchers: ['rule=hot', 'severity=critical'],
            mode: 'live',
            max_share: 1,
            undo: 'by_hand',
            steps: [
              { mark: 'degraded' },
              { webhook: { url: `${outside.url}/machine`, secret_file: secret } },
            ],
          },
        ],
      }),
    );
    await using stack = await FleetStack.start({
      agent: {
        collection_interval: '200ms',
        external_labels: { rack: 'r7', pool: 'train' },
        collectors: { dcgm_exporter: { url: exporter.url } },
      },
      aggregator: {
        api: { tokens: file('tokens'), anonymous_read: true },
        alerts: {
          ...{ rules: file('rules.yaml'), notify: file('notify.yaml'), actions: file('actions.yaml') },
          heartbeat: { every: '1s', url: `${outside.url}/heartbeat` },
        },
      },
    });
    const gpufleet = async (...args: string[]): Promise<string> => {
      await using child = await startProgram('aggregator/cli/main.ts', {
        args: ['--server', stack.api, '--token', TOKEN, ...args],
        env: { NO_COLOR: '1' },
      });
      const { status } = await child.exited;
      expect(status, child.output).toBe(0);
      return child.output;
    };
    const beats: string[] = [];
    const connection = await connect({ servers: stack.nats.url });
    try {
      connection.subscribe('gpufleet.heartbeat.>', {
        callback: (_, message) => void beats.push(message.subject),
      });
      await until(() => outside.to('/heartbeat').some(({ body }) => body.ok) && beats.length > 0, {
        timeoutMs: 30_000,
        what: 'a heartbeat at the URL and on NATS',
      });
      expect(beats[0]).toBe('gpufleet.heartbeat.test.shard-0');

      exporter.text = page(97);
      await until(() => outside.to('/people').length > 0, { timeoutMs: 30_000, what: 'people are told' });
      const [first] = outside.to('/people');
      expect(first!.body).toMatchObject({
        status: 'firing',
        alerts: [{ labels: { node: 'node-1', rack: 'r7' } }],
      });
      expect(first!.key).toBeTruthy();
      const { alerts } = await stack.getJson<{
        alerts: { id: string; annotations: Record<string, string> }[];
      }>('/api/v1/alerts/active?rule=hot');
      expect(alerts[0]!.annotations.description).toBe('GPU 0 of node-1 in rack r7 is hot');

      await until(async () => (await gpufleet('actions')).includes('awaiting approval'), {
        timeoutMs: 30_000,
        everyMs: 500,
        what: 'an action waits for a word',
      });
      expect(outside.to('/machine')).toEqual([]);
      const { actions } = await stack.getJson<{ actions: { id: string }[] }>('/api/v1/actions');
      await gpufleet('actions', 'approve', actions[0]!.id, '--why', 'go');
      await until(async () => (await gpufleet('actions', '--state', 'done')).includes('mark-hot'), {
        timeoutMs: 30_000,
        everyMs: 500,
        what: 'the action is done',
      });
      expect(outside.to('/machine')).toHaveLength(1);
      expect(await gpufleet('marks')).toMatch(/node-1 +degraded/);

      expect(await gpufleet('ack', alerts[0]!.id, '--comment', 'on it')).toContain('is acknowledged');
      expect(await gpufleet('silence', 'pool=train', '--until', '1h', '--why', 'rebuild')).toContain(
        'covers 1 firing alert',
      );
      expect(await gpufleet('alerts', '--active')).toMatch(/firing \(acknowledged by mina, silenced\)/);

      // A limit that the GPU does not reach: the same alert resolves, without a restart.
      await writeFile(file('rules.yaml'), 'rules:\n  - name: hot\n    metric: [\n');
      await writeFile(file('rules.yaml'), stringify({ rules: [{ name: 'hot' }] }));
      const refused = await fetch(`${stack.api}/api/v1/rules/reload`, {
        method: 'POST',
        body: '{}',
        headers: { authorization: `Bearer ${TOKEN}` },
      });
      expect(refused.status).toBe(400);
      expect(await refused.text()).toMatch(/rules\.yaml:2:5/);
      expect(await gpufleet('rules')).toMatch(/hot +threshold +1 [\s\S]*the file on disk is not what runs/);
      // Once more where the aggregator sees the file by itself before it is told: then nothing is left to change.
      let limit = 98;
      await until(
        async () => {
          await writeFile(file('rules.yaml'), stringify(ruleAt(++limit)));
          return (await gpufleet('rules', 'reload')) === '1 rules run: 0 new, 1 changed, 0 gone\n';
        },
        { timeoutMs: 30_000, what: 'a reload that changes the rule' },
      );
      await until(async () => (await gpufleet('alerts', '--active')) === 'no active alerts\n', {
        timeoutMs: 30_000,
        everyMs: 500,
        what: 'the alert resolves',
      });

      await gpufleet('actions', 'undo', actions[0]!.id, '--why', 'it was the limit');
      await until(async () => (await gpufleet('marks')) === 'no node is marked\n', {
        timeoutMs: 30_000,
        everyMs: 500,
        what: 'the mark is taken back',
      });
      const audit = await gpufleet('audit');
      for (const what of ['action.approve', 'alert.ack', 'silence.set', 'rules.reload', 'action.undo'])
        expect(audit, audit).toContain(what);
      // One that fires, and its end: nothing twice.
      await until(() => outside.to('/people').length >= 2, {
        timeoutMs: 30_000,
        what: 'people hear of its end',
      });
      expect(outside.to('/people').map(({ body }) => body.status)).toEqual(['firing', 'resolved']);

      const called = outside.to('/heartbeat').length;
      await stack.nats.stop();
      await until(() => stack.aggregator!.output.includes('the heartbeat stops'), {
        timeoutMs: 30_000,
        what: 'the heartbeat stops with NATS',
      });
      expect(outside.to('/heartbeat').length).toBeGreaterThanOrEqual(called);
    } finally {
      await connection.close();
    }
  });
});
