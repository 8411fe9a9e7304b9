import { createServer, type Server } from 'node:net';
import { expect, test } from 'vitest';
import { agentPort, checkPorts } from '../../../deploy/local/plan.ts';
import { freePort } from '../../support/ports.ts';

/** A listener on two neighbouring ports, the second one only where asked for. */
async function occupy(count: 1 | 2): Promise<{ port: number } & AsyncDisposable> {
  for (;;) {
    const port = await freePort();
    const servers = await Promise.all([port, port + 1].slice(0, count).map(listen)).catch(() => undefined);
    if (servers === undefined) continue;
    return {
      port,
      async [Symbol.asyncDispose]() {
        for (const server of servers) await new Promise((resolve) => server.close(resolve));
      },
    };
  }
}

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

const OWN = { url: 'x', binary: '/bin/x' };

// Lost without it: "EADDRINUSE" deep in a log instead of which option to use.
test('every taken port is named with its purpose and its option, all at once', async () => {
  await using busy = await occupy(1);
  const free = await freePort();
  const ports = { ingest: busy.port, api: free, agent: 1, victoriaMetrics: busy.port, nats: busy.port };
  await expect(checkPorts(ports, { victoriaMetrics: OWN, nats: { url: 'x' } })).rejects.toThrow(
    `Cannot listen on port ${busy.port} (ingest): it is taken; free it or choose another with --ingest-port PORT\n` +
      `Cannot listen on port ${busy.port} (VictoriaMetrics): it is taken; free it or choose another with --victoria-metrics-port PORT`,
  );
});

test('the port of a server that is not ours to start may be taken: it is the server', async () => {
  await using busy = await occupy(1);
  const ports = {
    ingest: await freePort(),
    api: await freePort(),
    agent: 1,
    victoriaMetrics: busy.port,
    nats: busy.port,
  };
  await checkPorts(ports, { victoriaMetrics: { url: 'x' }, nats: undefined });
});

test("the agent's taken port is said once and the next one used; with both taken it still collects", async () => {
  const said: string[] = [];
  await using busy = await occupy(2);
  expect(await agentPort(busy.port, { nodes: 1 }, (line) => said.push(line))).toBeUndefined();
  expect(said).toEqual([expect.stringContaining('the agent collects, and exports nothing')]);
});

test('the port of the exporter that is scraped is left to it, also while it is down', async () => {
  const port = await freePort();
  const source = { url: `http://127.0.0.1:${port}/metrics` };
  const said: string[] = [];
  const chosen = await agentPort(port, source, (line) => said.push(line));
  expect(chosen).not.toBe(port);
  expect(said).toHaveLength(1);
});
