import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type CertificateFiles, TestAuthority } from '../shared/security/certificates.ts';
import { FleetStack } from '../support/fleet-stack.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

const COLLECTORS = { collection_interval: '200ms', collectors: { simulated: { gpus: 2, seed: 3 } } };
const WAIT_MS = 20_000;

interface Nodes {
  readonly nodes: { readonly name: string; readonly state: string; readonly series_count: number }[];
}

/** Node, state and whether it has series, as the API tells. */
async function upNodes(stack: FleetStack): Promise<string[]> {
  const { nodes } = await stack.getJson<Nodes>('/api/v1/nodes');
  return nodes
    .filter(({ state, series_count }) => state === 'NODE_STATE_UP' && series_count > 0)
    .map(({ name }) => name);
}

/** The sum of the lines that match up to their value. */
async function aggregatorMetric(stack: FleetStack, series: string | RegExp): Promise<number> {
  const text = await (await fetch(`${stack.api}/metrics`)).text();
  return text
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([name = '']) => (typeof series === 'string' ? name === series : series.test(name)))
    .reduce((sum, [, value]) => sum + Number(value), 0);
}

const agentOf = (ca: string, files?: CertificateFiles, more: object = {}) => ({
  ...COLLECTORS,
  tls: { ca, ...files, ...more },
});

// The way in for samples: whoever may write as another node can hide a failing GPU.
test('mutual TLS: a node comes in with its own certificate, and with no other', {
  timeout: 120_000,
}, async () => {
  await using authority = await TestAuthority.create();
  const [server, own, other] = await Promise.all([
    authority.issue('server', 'DNS:aggregator.example,IP:127.0.0.1'),
    authority.issue('own', 'URI:spiffe://fleet.example/node/node-1'),
    authority.issue('node-2'),
  ]);
  const ingest = { tls: { ...server, ca: authority.ca } };
  {
    await using stack = await FleetStack.start({
      embedded: true,
      aggregator: { ingest },
      agent: agentOf(authority.ca, own),
    });
    await until(async () => (await upNodes(stack)).includes('node-1'), {
      timeoutMs: WAIT_MS,
      what: 'samples arrive',
    });
    expect(await stack.agentMetric('gpufleet_agent_uplink_connected')).toBe(1);
  }
  {
    await using stack = await FleetStack.start({
      embedded: true,
      aggregator: { ingest },
      agent: agentOf(authority.ca, other),
    });
    await until(
      async () =>
        (await aggregatorMetric(stack, 'gpufleet_ingest_stream_failures_total{code="PERMISSION_DENIED"}')) >
        0,
      { timeoutMs: WAIT_MS, what: 'the refusal is counted', detail: () => stack.agent!.lastLines(5) },
    );
    await until(async () => (await stack.agentMetric('gpufleet_agent_uplink_failures_total')) > 0, {
      timeoutMs: WAIT_MS,
      what: 'the agent counts the failure',
      detail: () => stack.agent!.lastLines(20),
    });
    expect(stack.agent!.output).toContain('belongs to node');
    expect((await stack.getJson<Nodes>('/api/v1/nodes')).nodes).toEqual([]);
  }
});

test('an agent does not send to an aggregator whose certificate it does not trust, or that has another name', {
  timeout: 120_000,
}, async () => {
  await using authority = await TestAuthority.create();
  await using stranger = await TestAuthority.create();
  const named = await authority.issue('server', 'DNS:aggregator.example');
  const start = (agent: object) =>
    FleetStack.start({
      embedded: true,
      aggregator: { ingest: { tls: named } },
      agent: { ...COLLECTORS, ...agent },
    });
  for (const tls of [{ ca: stranger.ca, server_name: 'aggregator.example' }, { ca: authority.ca }]) {
    await using stack = await start({ tls });
    await until(async () => (await stack.agentMetric('gpufleet_agent_uplink_failures_total')) > 1, {
      timeoutMs: WAIT_MS,
      what: 'the agent gives up twice',
    });
    expect((await stack.getJson<Nodes>('/api/v1/nodes')).nodes).toEqual([]);
  }
  await using stack = await start({ tls: { ca: authority.ca, server_name: 'aggregator.example' } });
  await until(async () => (await upNodes(stack)).includes('node-1'), {
    timeoutMs: WAIT_MS,
    what: 'samples arrive',
  });
});

test('a wrong token is refused and seen on both sides; what was held back arrives once it is right', {
  timeout: 120_000,
}, async () => {
  await using dir = tempDir('tokens');
  const [tokens, token] = [join(dir.path, 'tokens'), join(dir.path, 'token')];
  await writeFile(tokens, 'agent the-right-token-of-node-1 node=node-1\nviewer a-viewer-is-no-agent\n');
  await chmod(tokens, 0o600);
  await writeFile(token, 'a-viewer-is-no-agent\n', { mode: 0o600 });
  await using stack = await FleetStack.start({
    embedded: true,
    aggregator: { ingest: { tokens } },
    agent: { ...COLLECTORS, token_file: token },
  });
  await until(
    async () =>
      (await aggregatorMetric(stack, 'gpufleet_ingest_stream_failures_total{code="UNAUTHENTICATED"}')) > 0 &&
      (await stack.agentMetric('gpufleet_agent_uplink_failures_total')) > 0 &&
      (await stack.agentMetric('gpufleet_agent_backlog_records')) > 10,
    { timeoutMs: WAIT_MS, what: 'it is refused, and its records wait' },
  );
  expect(await stack.agentMetric('gpufleet_agent_uplink_connected')).toBe(0);
  expect((await stack.getJson<Nodes>('/api/v1/nodes')).nodes).toEqual([]);
  const held = await stack.agentMetric('gpufleet_agent_backlog_records');

  await writeFile(token, 'the-right-token-of-node-1\n');
  await until(async () => (await upNodes(stack)).includes('node-1'), {
    timeoutMs: 60_000,
    what: 'samples arrive',
  });
  await stack.drained();
  // Ticks, and the few dictionaries and events between them.
  const late = /^gpufleet_ingest_records_total\{.*lane="backfill"/;
  await until(async () => (await aggregatorMetric(stack, late)) >= held, {
    timeoutMs: WAIT_MS,
    what: 'the records that waited arrive',
  });
  for (const program of [stack.agent!, stack.aggregator!]) {
    expect(program.output).not.toContain('the-right-token');
    expect(program.output).not.toContain('a-viewer-is-no');
  }
});
