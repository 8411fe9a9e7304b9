import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, test } from 'vitest';
import { sharedData } from '../support/data.ts';
import { FleetStack } from '../support/fleet-stack.ts';
import { startTextServer, type TextServer } from '../support/text-server.ts';
import type { ExportedSeries } from '../support/victoria-metrics.ts';
import { until } from '../support/wait.ts';

/** VictoriaMetrics renews its own metrics once a second. */
const METRICS_AGE_MS = 1_200;

/** Captures of real exporters, read in place, and one of our own writing that is always there. */
const CAPTURES: readonly (readonly [name: string, path: string])[] = [
  ['own fixture', join(import.meta.dirname, '../fixtures/dcgm-exporter/two-h100-pods.metrics')],
  ...captureFiles(),
];

function captureFiles(): [string, string][] {
  const folder = sharedData('samples/dcgm-exporter');
  if (!folder) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.metrics'))
    .map((file) => [file, join(folder, file)]);
}

/** What each of ten fields must become, stated by hand: canonical name, labels that it adds, and the conversion. */
const BY_HAND: Record<
  string,
  { name: string; labels?: Record<string, string>; convert: (value: number) => number }
> = {
  DCGM_FI_DEV_GPU_TEMP: {
    name: 'gpu_temperature_celsius',
    labels: { sensor: 'core' },
    convert: (celsius) => celsius,
  },
  DCGM_FI_DEV_MEMORY_TEMP: {
    name: 'gpu_temperature_celsius',
    labels: { sensor: 'memory' },
    convert: (celsius) => celsius,
  },
  DCGM_FI_DEV_POWER_USAGE: { name: 'gpu_power_watts', convert: (watts) => watts },
  DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION: {
    name: 'gpu_energy_joules_total',
    convert: (millijoules) => millijoules / 1000,
  },
  DCGM_FI_DEV_SM_CLOCK: {
    name: 'gpu_clock_hertz',
    labels: { domain: 'sm' },
    convert: (megahertz) => megahertz * 1_000_000,
  },
  DCGM_FI_DEV_MEM_CLOCK: {
    name: 'gpu_clock_hertz',
    labels: { domain: 'memory' },
    convert: (megahertz) => megahertz * 1_000_000,
  },
  DCGM_FI_DEV_GPU_UTIL: {
    name: 'gpu_utilization_ratio',
    labels: { task: 'general' },
    convert: (percent) => percent / 100,
  },
  DCGM_FI_DEV_MEM_COPY_UTIL: {
    name: 'gpu_memory_controller_utilization_ratio',
    convert: (percent) => percent / 100,
  },
  DCGM_FI_DEV_FB_USED: { name: 'gpu_memory_used_bytes', convert: (mebibytes) => mebibytes * 1_048_576 },
  DCGM_FI_DEV_FB_FREE: { name: 'gpu_memory_free_bytes', convert: (mebibytes) => mebibytes * 1_048_576 },
};

interface Line {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A second reader of the format, as plain as can be: the agent's own must agree with it. */
function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .map((line) => /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)\s*$/.exec(line))
    .filter((match) => match !== null)
    .map(([, name, labels = '', value]) => ({
      name: name!,
      // An empty value is no label, says Prometheus' data model.
      labels: Object.fromEntries(
        [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
          .map(([, label, content]): [string, string] => [
            label!,
            content!.replaceAll('\\"', '"').replaceAll('\\\\', '\\'),
          ])
          .filter(([, content]) => content !== ''),
      ),
      value: Number(value),
    }));
}

/** Labels that the aggregator sets itself are renamed where an exporter has them too, as Prometheus does. */
const stored = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(labels).map(([label, value]) => [
      label === 'node' || label === 'cluster' ? `exported_${label}` : label,
      value,
    ]),
  );

/** As DCGM documents them: each type's "nothing here" values lie in these ranges. */
const isBlank = (value: number): boolean =>
  (value >= 0x7ffffff0 && value <= 0x7fffffff) ||
  value >= 9.22e18 ||
  (value >= 140737488355328 && value <= 140737488355344);
const near = (a: number, b: number): boolean =>
  Math.abs(a - b) <= 1e-11 * Math.max(1, Math.abs(a), Math.abs(b));

function startStack(server: TextServer, naming: string): Promise<FleetStack> {
  return FleetStack.start({
    agent: { collection_interval: '250ms', collectors: { dcgm_exporter: { url: server.url, naming } } },
  });
}

/** Lets some ticks pass, stops the agent in order, and returns everything stored of its node. */
async function collectTicks(
  stack: FleetStack,
  server: TextServer,
): Promise<{ all: ExportedSeries[]; ticks: number[] }> {
  const first = server.requests;
  await until(() => server.requests >= first + 8, { timeoutMs: 30_000, what: 'eight scrapes' });
  await stack.drained();
  await stack.agent!.stop(8_000);
  const all = (await stack.store.export('{__name__!=""}')).filter(
    ({ metric }) => !/^gpufleet_/.test(metric.__name__!),
  );
  const ticks = [...all.find(({ metric }) => metric.__name__ === 'up')!.timestamps].sort((a, b) => a - b);
  expect(ticks.length).toBeGreaterThanOrEqual(8);
  return { all, ticks };
}

/** The one series with these labels at least. */
function find(
  all: readonly ExportedSeries[],
  name: string,
  labels: Readonly<Record<string, string>>,
): ExportedSeries | undefined {
  const matching = all.filter(
    ({ metric }) =>
      metric.__name__ === name && Object.entries(labels).every(([label, value]) => metric[label] === value),
  );
  expect(matching.length, `${name} ${JSON.stringify(labels)}`).toBeLessThanOrEqual(1);
  return matching[0];
}

function expectEachTickOnce(
  series: ExportedSeries,
  ticks: readonly number[],
  value: number,
  what: string,
): void {
  expect(
    [...series.timestamps].sort((a, b) => a - b),
    what,
  ).toEqual(ticks);
  expect(
    series.values.every((one) => near(one, value)),
    `${what}: ${series.values[0]} is not ${value}`,
  ).toBe(true);
}

async function expectInsertedOnce(stack: FleetStack): Promise<void> {
  await stack.aggregator!.stop(8_000);
  const unique = (await stack.store.export('{__name__!=""}')).reduce(
    (sum, { values }) => sum + values.length,
    0,
  );
  const rows = (): Promise<number> => stack.store.metricSum('vm_rows_inserted_total');
  await until(async () => (await rows()) >= unique, { timeoutMs: 20_000, what: 'every sample is counted' });
  await sleep(METRICS_AGE_MS);
  expect((await rows()) / unique).toBe(1);
}

describe.each(CAPTURES)('%s', (_, path) => {
  const text = readFileSync(path, 'utf8');
  const lines = linesOf(text);

  test('canonical: every sample is in the store once for each tick, converted, its labels on it or on an info series', {
    timeout: 120_000,
  }, async () => {
    await using server = await startTextServer(text);
    await using stack = await startStack(server, 'canonical');
    const { all, ticks } = await collectTicks(stack, server);
    const canonicalValues = all.map(({ metric, values }) => ({ metric, value: values[0]! }));
    for (const { name, labels, value } of lines) {
      const what = `${name} of GPU ${labels.gpu}`;
      const identity = { ...(labels.gpu && { gpu: labels.gpu }), ...(labels.UUID && { uuid: labels.UUID }) };
      const hand = BY_HAND[name];
      if (labels.gpu === undefined) {
        // A line that names no GPU cannot be a GPU's series: it keeps its own name.
        expectEachTickOnce(find(all, name, stored(labels))!, ticks, value, name);
      } else if (hand) {
        const series = find(all, hand.name, { ...identity, ...hand.labels });
        if (isBlank(value)) expect(series, `${what} is blank and must be absent`).toBeUndefined();
        else expectEachTickOnce(series!, ticks, hand.convert(value), what);
        if (!isBlank(value))
          expect(series!.metric).toMatchObject({
            cluster: 'test',
            node: 'node-1',
            ...(labels.modelName && { model: labels.modelName }),
          });
      } else if (!isBlank(value)) {
        // Whatever its name has become: some series of this GPU holds it, in some exact scale.
        const scales = [1, 1 / 100, 1 / 1000, 1e-9, 1e6, 1_048_576, 1000, 1_024_000];
        const holders = canonicalValues.filter(
          ({ metric, value: stored }) =>
            Object.entries(identity).every(([label, content]) => metric[label] === content) &&
            scales.some((scale) => near(stored, value * scale)),
        );
        expect(holders.length, what).toBeGreaterThan(0);
      }
      for (const [label, content] of Object.entries(labels)) {
        const somewhere = all.some(
          ({ metric }) =>
            (labels.UUID === undefined || metric.uuid === labels.UUID) &&
            Object.values(metric).includes(content),
        );
        expect(somewhere, `label ${label}="${content}" of ${what}`).toBe(true);
      }
    }
    expect(all.every(({ timestamps }) => new Set(timestamps).size === timestamps.length)).toBe(true);
    await expectInsertedOnce(stack);
  });

  test('naming dcgm: names, labels and values as the exporter gave them', { timeout: 120_000 }, async () => {
    await using server = await startTextServer(text);
    await using stack = await startStack(server, 'dcgm');
    const { all, ticks } = await collectTicks(stack, server);
    for (const { name, labels, value } of lines) {
      const series = find(all, name, stored(labels));
      if (isBlank(value)) expect(series, name).toBeUndefined();
      else expectEachTickOnce(series!, ticks, value, `${name} ${JSON.stringify(labels)}`);
    }
    expect(all.some(({ metric }) => metric.__name__!.startsWith('gpu_temperature'))).toBe(false);
    await expectInsertedOnce(stack);
  });
});

interface AlertJson {
  readonly id: string;
  readonly rule: string;
  readonly state: string;
  readonly severity: string;
  readonly transition: string;
}

test('96 °C is one critical alert on a durable subscriber, in ListAlerts and in REST; at 60 °C it resolves, once', {
  timeout: 120_000,
}, async () => {
  const [, path] = CAPTURES[1] ?? CAPTURES[0]!;
  const capture = readFileSync(path, 'utf8');
  // One GPU's core temperature, in the real capture's own line.
  const at = (celsius: number): string =>
    capture.replace(/^(DCGM_FI_DEV_GPU_TEMP\{gpu="0",.*\}) \S+$/m, `$1 ${celsius}`);
  expect(at(96)).not.toBe(capture);
  await using server = await startTextServer(at(45));
  await using stack = await startStack(server, 'canonical');
  const connection = await connect({ servers: stack.nats.url });
  try {
    const manager = await until(
      async () => {
        const found = await jetstreamManager(connection);
        await found.streams.info('GPUFLEET_ALERTS');
        return found;
      },
      { timeoutMs: 20_000, what: 'the alert stream' },
    );
    await manager.consumers.add('GPUFLEET_ALERTS', {
      durable_name: 'pager',
      ack_policy: 'explicit' as never,
    });
    const received: AlertJson[] = [];
    const consumer = await jetstream(connection).consumers.get('GPUFLEET_ALERTS', 'pager');
    const messages = await consumer.consume({
      callback: (message) => {
        received.push(message.json<AlertJson>());
        message.ack();
      },
    });
    const active = async (): Promise<AlertJson[]> =>
      (await stack.getJson<{ alerts?: AlertJson[] }>('/api/v1/alerts/active')).alerts ?? [];

    server.text = at(96);
    await until(() => received.length >= 1, { timeoutMs: 20_000, what: 'the alert on NATS' });
    const [fired] = received;
    expect(fired).toMatchObject({
      rule: 'gpu-temperature',
      state: 'ALERT_STATE_FIRING',
      severity: 'SEVERITY_CRITICAL',
    });
    expect(await active()).toMatchObject([{ id: fired!.id, severity: 'SEVERITY_CRITICAL' }]);
    expect(await listAlerts(stack)).toMatchObject([{ id: fired!.id, state: 'ALERT_STATE_FIRING' }]);
    const seen = server.requests;
    await until(() => server.requests > seen + 8, { timeoutMs: 20_000, what: 'more hot scrapes' });

    server.text = at(60);
    await until(() => received.length >= 2, { timeoutMs: 20_000, what: 'its end on NATS' });
    const cool = server.requests;
    await until(() => server.requests > cool + 8, { timeoutMs: 20_000, what: 'more cool scrapes' });
    expect(received.map(({ id, state }) => [id, state])).toEqual([
      [fired!.id, 'ALERT_STATE_FIRING'],
      [fired!.id, 'ALERT_STATE_RESOLVED'],
    ]);
    expect(await active()).toEqual([]);
    messages.stop();
  } finally {
    await connection.close();
  }
});

/** ListAlerts as any HTTP client calls it: Connect's JSON. */
async function listAlerts(stack: FleetStack): Promise<AlertJson[]> {
  const response = await fetch(`${stack.api}/gpufleet.fleet.v1.FleetService/ListAlerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{}',
  });
  return ((await response.json()) as { alerts?: AlertJson[] }).alerts ?? [];
}
