import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { stringify } from 'yaml';
import { FleetStack } from '../support/fleet-stack.ts';
import { Child, startProgram } from '../support/process.ts';
import { tempDir } from '../support/temp.ts';
import { startTextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';
import { findPythonGrpc, generatePython, hasPythonGrpc } from './python-grpc.ts';

const found = await findPythonGrpc((line) => void process.stderr.write(`gpufleet: ${line}\n`));

const CAPTURE = readFileSync(
  join(import.meta.dirname, '../fixtures/dcgm-exporter/two-h100-pods.metrics'),
  'utf8',
);
const UUIDS = ['GPU-00000000-aaaa-bbbb-cccc-000000000000', 'GPU-00000001-aaaa-bbbb-cccc-000000000000'];
const MODEL = 'NVIDIA H100 80GB HBM3';
const RFC_3339 = expect.stringMatching(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
/** Which of the two depends on how busy the machine is: three intervals are 750 ms. */
const FRESHNESS = expect.stringMatching(/^NODE_STATE_(UP|STALE)$/);

/** The capture with its first GPU at this core temperature, degrees Celsius. */
const at = (celsius: number): string =>
  CAPTURE.replace(/^(DCGM_FI_DEV_GPU_TEMP\{gpu="0",.*\}) \S+$/m, `$1 ${celsius}`);

/** A line of the client: messages are protobuf's JSON under the contract's own field names. */
interface Step {
  readonly step: string;
  readonly [field: string]: unknown;
}

function stepsOf(client: Child, name: string): Step[] {
  return client.output
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Step)
    .filter(({ step }) => step === name);
}

/** Until the client has said `name` this often. */
function said(client: Child, name: string, times = 1): Promise<unknown> {
  return until(() => stepsOf(client, name).length >= times, {
    timeoutMs: 60_000,
    what: `the client says "${name}"`,
    hopeless: () => (client.exit ? `it ended: ${client.lastLines(15)}` : undefined),
    detail: () => client.lastLines(15),
  });
}

/** A node beside the stack's own, so that a page of one node is not the whole list. */
async function startSecondAgent(stack: FleetStack): Promise<Child> {
  const config = {
    cluster: 'test',
    node: 'node-2',
    machine_id: 'machine-2',
    data_dir: join(stack.dir.path, 'agent-2'),
    aggregators: [`127.0.0.1:${stack.ports.ingest}`],
    exporter: { listen: '127.0.0.1:0' },
    collection_interval: '250ms',
    collectors: { simulated: { gpus: 1, seed: 3 } },
  };
  const file = join(stack.dir.path, 'agent-2.yaml');
  await writeFile(file, stringify(config));
  return startProgram('agent/main.ts', { args: ['--config', file] });
}

async function gpusSeen(stack: FleetStack, node: string): Promise<number> {
  const { gpus } = await stack.getJson<{ gpus?: unknown[] }>(`/api/v1/nodes/${node}`);
  return gpus?.length ?? 0;
}

// Lost without it: the contract is only known to work between our own two ends, in one language; a stub that
// protoc cannot make, or a status or stream that only our runtime understands, is found by a user.
test.skipIf(!hasPythonGrpc(found))(
  'a Python client made from proto/ alone lists, reads, follows an alert to its end, and is refused what it may not',
  { timeout: 180_000 },
  async () => {
    if (!found.tools) throw new Error(`Cannot run Python's gRPC: ${found.reason}`);
    const { tools } = found;
    await using stubs = tempDir('python-stubs');
    await generatePython(tools, stubs.path);
    await using server = await startTextServer(at(61));
    await using stack = await FleetStack.start({
      embedded: true,
      agent: { collection_interval: '250ms', collectors: { dcgm_exporter: { url: server.url } } },
    });
    await using second = await startSecondAgent(stack);
    await until(
      async () => (await gpusSeen(stack, 'node-1')) === 2 && (await gpusSeen(stack, 'node-2')) === 1,
      {
        timeoutMs: 30_000,
        what: 'both nodes with their GPUs',
        detail: () => second.lastLines(5),
      },
    );

    await using client = await Child.start({
      name: 'client.py',
      command: tools.python,
      args: [
        '-B',
        join(import.meta.dirname, 'client.py'),
        stubs.path,
        `127.0.0.1:${stack.ports.api}`,
        'node-1',
      ],
      env: tools.env,
    });
    await said(client, 'watching');
    server.text = at(96);
    await said(client, 'alert');
    server.text = at(60);
    await said(client, 'alert', 2);
    await said(client, 'watched');
    expect((await client.exited).status, client.lastLines(15)).toBe(0);

    const step = (name: string): Step => stepsOf(client, name)[0]!;
    expect(step('nodes').pages).toMatchObject([
      {
        nodes: [{ cluster: 'test', name: 'node-1', state: FRESHNESS, gpu_count: 2 }],
        next_page_token: expect.stringMatching(/./),
        total: 2,
      },
      { nodes: [{ cluster: 'test', name: 'node-2', state: FRESHNESS, gpu_count: 1 }], total: 2 },
    ]);
    expect(step('gpus').pages).toMatchObject([
      { gpus: [{ uuid: UUIDS[0], index: '0' }], next_page_token: expect.stringMatching(/./), total: 2 },
      { gpus: [{ uuid: UUIDS[1], index: '1' }], total: 2 },
    ]);
    expect(step('node').answer).toMatchObject({
      node: { name: 'node-1', machine_id: 'machine-1', connected_at: RFC_3339, last_sample_at: RFC_3339 },
      gpus: UUIDS.map((uuid) => ({ uuid, model: MODEL, node: 'node-1' })),
    });
    expect(step('gpu').answer).toMatchObject({
      gpu: { uuid: UUIDS[0], temperature_celsius: 61, power_watts: 512.433, utilization_ratio: 0.97 },
      samples: expect.arrayContaining([
        expect.objectContaining({
          name: 'gpu_temperature_celsius',
          labels: expect.objectContaining({ sensor: 'core', uuid: UUIDS[0] }),
          value: 61,
          time: RFC_3339,
          state: 'SAMPLE_STATE_PRESENT',
        }),
      ]),
    });
    // The capture has no such field: absent is not zero, and a generated client can tell.
    expect(step('gpu').answer).not.toHaveProperty('gpu.power_limit_watts');
    expect(step('node').answer).toHaveProperty(['gpus', 1, 'utilization_ratio'], 0);

    expect(step('unknown-node')).toMatchObject({
      code: 'NOT_FOUND',
      details: expect.stringContaining('no-such-node'),
    });
    expect(step('bad-token')).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(stepsOf(client, 'health').map(({ answer }) => answer)).toEqual([
      { status: 'SERVING' },
      { status: 'SERVING' },
    ]);
    expect(step('health-unknown')).toMatchObject({ code: 'NOT_FOUND' });

    const alerts = stepsOf(client, 'alert').map(({ alert }) => alert as Record<string, unknown>);
    expect(alerts).toMatchObject([
      {
        state: 'ALERT_STATE_FIRING',
        severity: 'SEVERITY_CRITICAL',
        rule: 'gpu-temperature',
        gpu_uuid: UUIDS[0],
        value: 96,
        fired_at: RFC_3339,
        transition: '1',
      },
      {
        state: 'ALERT_STATE_RESOLVED',
        resolution: 'RESOLUTION_CLEARED',
        resolved_at: RFC_3339,
        transition: '2',
      },
    ]);
    expect(alerts[1]!.id).toBe(alerts[0]!.id);
    // Asked while it fired; that it was then resolved as cleared shows that the refusal changed nothing.
    expect(step('resolve')).toMatchObject({ code: 'PERMISSION_DENIED' });
    expect(step('watched')).toMatchObject({ code: 'CANCELLED' });
  },
);
