import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FleetStack } from '../support/fleet-stack.ts';
import { startProgram } from '../support/process.ts';
import { hasNatsServer, hasVictoriaMetrics } from '../support/servers.ts';
import { type TempDir, tempDir } from '../support/temp.ts';
import { startTextServer, type TextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const VIEWER = 'a-viewer-token-0123456789';
const OPERATOR = 'an-operator-token-0123456789';
/** Derived series come every ten seconds. */
const WAIT_MS = 25_000;

const CELSIUS = 'gpu_temperature_celsius{gpu="7",uuid="GPU-page",sensor="core"}';
/** An exporter with canonical names: enough for a score, at 55 °C and with nothing wrong. */
const page = (celsius: string): string =>
  [
    '# TYPE gpu_temperature_celsius gauge',
    `${CELSIUS} ${celsius}`,
    'gpu_temperature_celsius{gpu="7",uuid="GPU-page",sensor="memory"} 60',
    ...Object.entries({
      gpu_temperature_margin_celsius: 30,
      gpu_power_watts: 400,
      gpu_clock_event_reasons: 0,
      gpu_row_remap_pending: 0,
      gpu_row_remap_failed: 0,
      gpu_pcie_link_width: 16,
      gpu_pcie_link_width_max: 16,
      gpu_recovery_action: 0,
    }).map(([name, value]) => `${name}{gpu="7",uuid="GPU-page"} ${value}`),
    'gpu_power_limit_watts{gpu="7",uuid="GPU-page",limit="enforced"} 700',
    'gpu_remapped_rows{gpu="7",uuid="GPU-page",cause="uncorrectable"} 0',
    '# TYPE gpu_ecc_errors_total counter',
    'gpu_ecc_errors_total{gpu="7",uuid="GPU-page",type="uncorrected",scope="volatile"} 0',
    '',
  ].join('\n');
interface EventBody {
  readonly type: string;
  readonly gpu: string;
  readonly gpu_uuid: string;
  readonly text: string;
  readonly attributes: Readonly<Record<string, string>>;
}

interface AlertBody {
  readonly rule: string;
  readonly state: string;
  readonly gpu: string;
  readonly summary: string;
}

interface Answer {
  readonly code: number | null;
  readonly output: string;
}

describe.skipIf(!hasVictoriaMetrics() || !hasNatsServer())('health, with the real programs', () => {
  let dir: TempDir;
  let exporter: TextServer;
  let stack: FleetStack;
  let nats: NatsConnection;
  const events: (EventBody & { readonly subject: string })[] = [];
  const alerts: AlertBody[] = [];

  beforeAll(async () => {
    dir = tempDir('health');
    const tokens = join(dir.path, 'tokens');
    await writeFile(tokens, `viewer ${VIEWER}\noperator ${OPERATOR} ann\n`);
    await chmod(tokens, 0o600);
    exporter = await startTextServer(page('55'));
    const lost = { at: 4, gpu: 1, kind: 'off_the_bus', duration: '1s' };
    stack = await FleetStack.start({
      aggregator: { api: { tokens } },
      agent: {
        // A node is unknown after three of them: a busy machine must not make it so.
        collection_interval: '2s',
        collectors: {
          simulated: { gpus: 2, seed: 3, load: 'steady', faults: [lost] },
          prometheus: { targets: [{ name: 'page', url: exporter.url }] },
        },
      },
    });
    nats = await connect({ servers: stack.nats.url });
    nats.subscribe('gpufleet.events.test.node-1.>', {
      callback: (_, message) =>
        void events.push({ ...(JSON.parse(message.string()) as EventBody), subject: message.subject }),
    });
    nats.subscribe('gpufleet.alerts.>', {
      callback: (_, message) => void alerts.push(JSON.parse(message.string()) as AlertBody),
    });
  }, 60_000);

  afterAll(async () => {
    await nats?.close();
    await stack?.[Symbol.asyncDispose]();
    await Promise.all([exporter, dir].map((one) => one?.[Symbol.asyncDispose]()));
  });

  async function gpufleet(token: string | undefined, ...args: string[]): Promise<Answer> {
    await using child = await startProgram('aggregator/cli/main.ts', {
      args,
      env: { GPUFLEET_SERVER: stack.api, NO_COLOR: '1', GPUFLEET_TOKEN: token },
    });
    const { status } = await child.exited;
    return { code: status, output: child.output };
  }

  async function json<T>(...args: string[]): Promise<T> {
    const { code, output } = await gpufleet(VIEWER, ...args, '--json');
    expect(code, output).toBe(0);
    return JSON.parse(output) as T;
  }

  /** How the API answers a viewer who would write. */
  const refused = async (path: string): Promise<number> => {
    const headers = { authorization: `Bearer ${VIEWER}` };
    const body = JSON.stringify({ mark: 'drained', cause: 'operator', why: 'because' });
    return (await fetch(`${stack.api}/api/v1/${path}`, { method: 'POST', headers, body })).status;
  };

  /** Tries a command until its output is as wished. */
  const says = (words: RegExp, ...args: string[]): Promise<string> => {
    let output = '';
    return until(
      async () => {
        ({ output } = await gpufleet(VIEWER, ...args));
        return words.test(output) && output;
      },
      {
        ...{ timeoutMs: WAIT_MS, everyMs: 500, detail: () => output },
        what: `gpufleet ${args.join(' ')} says ${words}`,
      },
    );
  };

  const wait = <T>(what: string, look: () => T | Promise<T>) =>
    until(look, { timeoutMs: WAIT_MS, everyMs: 200, what, detail: () => stack.aggregator!.lastLines(10) });

  // Lost without it: nobody can find out on a quiet day whether an anomaly would reach them.
  test('a test anomaly reaches CLI, NATS, alerts and store, and is marked as a test on the way', async () => {
    await says(/^node-1: \d/, 'health', '--node', 'node-1');
    expect((await gpufleet(VIEWER, 'inject', 'node-1/0')).code).toBe(4);
    expect((await fetch(`${stack.api}/api/v1/anomalies`)).status).toBe(401);
    const injected = await gpufleet(OPERATOR, 'inject', 'node-1/0', '--strength', '3', '--seconds', '600');
    expect(injected).toMatchObject({ code: 0, output: expect.stringMatching(/^test anomaly on node-1\/0/) });

    const listed = await says(/node-1\/0/, 'anomalies');
    expect(listed).toMatch(/node-1\/0 +open +3\.0 +Test: GPU 0: gpu_temperature_celsius/);
    const { anomalies } = await json<{ anomalies: { gpu: string; test: boolean; uuid: string }[] }>(
      'anomalies',
    );
    const anomaly = anomalies.find(({ gpu }) => gpu === '0')!;
    expect(anomaly.test).toBe(true);

    const event = await wait('the event', () => events.find(({ type }) => type === 'anomaly'));
    expect(event).toMatchObject({
      subject: 'gpufleet.events.test.node-1.anomaly',
      gpu: '0',
      gpu_uuid: anomaly.uuid,
      text: expect.stringMatching(/^Test: GPU 0: /),
      attributes: { phase: 'begin', test: 'true', strength: '3.00' },
    });
    const alert = await wait('the alert', () => alerts.find(({ rule }) => rule === 'gpu-anomaly'));
    expect(alert).toMatchObject({ state: 'ALERT_STATE_FIRING', gpu: '0' });
    expect(alert.summary).toContain('Test: GPU 0');

    const strength = `gpufleet_anomaly_strength{node="node-1",uuid="${anomaly.uuid}"}`;
    await wait('the strength is stored', async () => {
      await stack.store.flush();
      return (await stack.store.query(strength))[0]?.value === 3;
    });
    const scores = await stack.store.query(`gpufleet_health_score{node="node-1",uuid="${anomaly.uuid}"}`);
    expect(scores.map(({ metric }) => metric.dimension).sort()).toEqual([
      'all',
      'memory',
      'performance',
      'power',
      'reliability',
      'thermal',
    ]);
    // A test is no illness.
    expect(scores.map(({ value }) => value)).toEqual(scores.map(() => 100));
  }, 60_000);

  // Lost without it: a broken sensor drains a good node, or hides a bad one, and nobody can see which.
  test('a value that cannot be true does not touch the score, and is there to be looked at', async () => {
    const scoreOf = async (): Promise<unknown> => {
      const { gpus } = await json<{ gpus: { uuid: string; health?: { score: number; state: string } }[] }>(
        'gpus',
      );
      const { score, state } = gpus.find(({ uuid }) => uuid === 'GPU-page')?.health ?? {};
      return `${score} ${state}`;
    };
    const well = '100 HEALTH_STATE_HEALTHY';
    await wait('the GPU of the page is healthy', async () => (await scoreOf()) === well);
    const seen = exporter.requests;
    exporter.text = page('4e9');
    const rejected = await says(/quarantined_by_agent/, 'rejected', '--node', 'node-1');
    await wait('scrapes', () => exporter.requests > seen + 2);
    expect(await scoreOf()).toBe(well);
    expect(rejected).toMatch(
      /node-1 +\d+ +- +quarantined_by_agent +gpu_temperature_celsius\{.*uuid="GPU-page"/,
    );
    expect(rejected).toMatch(/^of all nodes, since the start: \d+ quarantined_by_agent$/m);

    const consumer = await jetstream(nats).consumers.get('GPUFLEET_REJECTED', {
      filter_subjects: 'gpufleet.rejected.test.node-1',
    });
    const message = await consumer.next({ expires: 5_000 });
    expect(message?.json()).toMatchObject({
      node: 'node-1',
      source: 'prometheus/page',
      live: true,
      samples: [
        {
          metric: 'gpu_temperature_celsius',
          labels: { uuid: 'GPU-page' },
          reason: 'quarantined_by_agent',
          high: 150,
        },
      ],
    });
    await stack.store.flush();
    const highest = `max_over_time(${CELSIUS.replace('{', '{node="node-1",')}[5m])`;
    expect((await stack.store.query(highest)).map(({ value }) => value)).toEqual([55]);
  }, 60_000);

  // Lost without it: what an operator says is not taken, or is taken from anybody.
  test('a GPU that was lost is critical until an operator clears it; a marked node wakes nobody', async () => {
    const changes = await says(/degraded|critical/, 'transitions', '--to', 'critical');
    expect(changes).toMatch(
      /node-1\/1 +healthy > critical +\d.* Xid 79 \(GPU has fallen off the bus\).*a hard cap holds the score at 10/,
    );
    const fallen = await wait('the event', () =>
      events.find(({ type, gpu }) => type === 'health_state' && gpu === '1'),
    );
    expect(fallen).toMatchObject({ attributes: { from: 'healthy', to: 'critical', cause: 'cap' } });
    expect(fallen.text).toMatch(/^GPU 1 is critical: Xid 79/);
    const alert = await wait('the alert', () => alerts.find(({ rule }) => rule === 'gpu-critical'));
    expect(alert).toMatchObject({ state: 'ALERT_STATE_FIRING', gpu: '1' });
    expect((await gpufleet(VIEWER, 'health')).output).toMatch(/^fleet: \d+\.\d; \d GPUs, 1 critical/);
    expect((await gpufleet(VIEWER, 'patterns')).code).toBe(0);

    const mark = ['mark', 'node-1', 'drained', '--why', 'a new board', '--until', '2h'];
    expect((await gpufleet(OPERATOR, ...mark)).output).toMatch(/^node-1 is marked drained until 20/);
    expect((await gpufleet(VIEWER, 'marks')).output).toMatch(/node-1 +drained .* ann +a new board/);

    const told = await wait('the event', () => events.find(({ type }) => type === 'node_mark'));
    expect(told).toMatchObject({
      subject: 'gpufleet.events.test.node-1.node_mark',
      text: 'the node is marked drained: a new board',
      attributes: { mark: 'drained', by: 'ann' },
    });

    const { transitions } = await json<{ transitions: { uuid: string }[] }>(
      'transitions',
      '--to',
      'critical',
    );
    const clear = ['clear', transitions[0]!.uuid, '--cause', 'diagnostic', '--why', 'dcgmi diag -r 3 passed'];
    expect(await gpufleet(OPERATOR, ...clear)).toMatchObject({
      code: 0,
      output: expect.stringContaining('degraded'),
    });
    const cleared = await says(/> degraded/, 'transitions', '--gpu', transitions[0]!.uuid);
    expect(cleared).toMatch(
      /critical > degraded .*a check after a reset passed.*by ann.*no alert: its node is marked/,
    );
    const better = await wait('the event', () =>
      events.find(({ attributes }) => attributes.from === 'critical'),
    );
    expect(better.attributes).toMatchObject({ to: 'degraded', by: 'ann', suppressed: 'true' });
    // What was raised is over; that it is degraded raises nothing on a drained node.
    await wait('the alert is over', () =>
      alerts.some(({ rule, state }) => rule === 'gpu-critical' && /RESOLVED/.test(state)),
    );
    expect(alerts.map(({ rule }) => rule)).not.toContain('gpu-degraded');

    const ways = ['nodes/node-1/mark', 'nodes/node-1/unmark', `gpus/${transitions[0]!.uuid}/clear`];
    expect(await Promise.all(ways.map(refused))).toEqual([403, 403, 403]);
    expect((await gpufleet(OPERATOR, 'unmark', 'node-1', '--why', 'done')).code).toBe(0);
    expect((await gpufleet(VIEWER, 'marks')).output).toBe('no node is marked\n');
  }, 60_000);
});
