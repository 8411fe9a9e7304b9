import { connect } from '@nats-io/transport-node';
import { expect, test } from 'vitest';
import { FleetStack } from '../support/fleet-stack.ts';
import { differences, recordedSamples, storedSamples } from '../support/recorded-samples.ts';
import { startTextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const page = (celsius: number): string =>
  `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",modelName="NVIDIA H100"} ${celsius}\n`;
const stateOf = (data: string): string => (JSON.parse(data) as { state: string }).state;

test('while the store is away an alert is on NATS all the same, and afterwards nothing is missing', {
  timeout: 120_000,
}, async () => {
  await using exporter = await startTextServer(page(50));
  await using stack = await FleetStack.start({
    agent: { collection_interval: '200ms', collectors: { dcgm_exporter: { url: exporter.url } } },
  });
  const connection = await connect({ servers: stack.nats.url });
  try {
    const states: string[] = [];
    connection.subscribe('gpufleet.alerts.>', {
      callback: (_, message) => {
        states.push(stateOf(message.string()));
      },
    });
    // Not merely rows in the store: its first ones are the aggregator's own.
    await until(async () => (await stack.agentMetric('gpufleet_agent_accepted_records_total')) > 0, {
      timeoutMs: 20_000,
      what: 'samples are accepted',
    });
    await stack.store.kill9();
    const seen = exporter.requests;
    await until(() => exporter.requests > seen + 10, { timeoutMs: 20_000, what: 'scrapes without a store' });
    exporter.text = page(97);
    await until(() => states.includes('ALERT_STATE_FIRING'), {
      timeoutMs: 10_000,
      what: 'the alert without a store',
    });
    expect(await (await fetch(`${stack.api}/readyz`)).text()).toContain('the store takes nothing');
    exporter.text = page(50);
    await until(() => states.includes('ALERT_STATE_RESOLVED'), {
      timeoutMs: 10_000,
      what: 'its end without a store',
    });

    await stack.store.restart();
    await until(async () => (await (await fetch(`${stack.api}/readyz`)).text()) === 'ready\n', {
      timeoutMs: 40_000,
      what: 'the store is taken up again',
    });
    // The agent hears of the new incarnation with the next acknowledgements, and sends again what may be lost.
    await until(async () => (await stack.agentMetric('gpufleet_agent_sent_again_records_total')) > 0, {
      timeoutMs: 20_000,
      what: 'repeats',
    });
    await stack.drained();
    await stack.agent!.stop(8_000);
    const recorded = await recordedSamples(stack.agentDir, 'machine-1');
    const stored = storedSamples(await stack.store.export('{node="node-1",__name__!~"gpufleet_.*"}'));
    expect(differences(recorded, stored)).toEqual([]);
    expect(states).toEqual(['ALERT_STATE_FIRING', 'ALERT_STATE_RESOLVED']);
  } finally {
    await connection.close();
  }
});

test('what an aggregator holds for a store that hangs dies with it, and comes again: an acknowledgement waits for the store', {
  timeout: 120_000,
}, async () => {
  await using exporter = await startTextServer(page(50));
  await using stack = await FleetStack.start({
    agent: { collection_interval: '200ms', collectors: { dcgm_exporter: { url: exporter.url } } },
  });
  await until(async () => (await stack.store.metricSum('vm_rows_inserted_total')) > 0, {
    timeoutMs: 20_000,
    what: 'samples arrive',
  });
  stack.store.pause();
  const seen = exporter.requests;
  await until(() => exporter.requests > seen + 8, {
    timeoutMs: 20_000,
    what: 'scrapes while the store hangs',
  });
  await stack.aggregator!.kill9();
  // The same incarnation goes on: nothing but the missing acknowledgement tells the agent to send again.
  stack.store.resume();
  await stack.startAggregator();
  const after = exporter.requests;
  await until(() => exporter.requests > after + 5, { timeoutMs: 20_000, what: 'scrapes afterwards' });
  await stack.drained();
  await stack.agent!.stop(8_000);
  const recorded = await recordedSamples(stack.agentDir, 'machine-1');
  const stored = storedSamples(await stack.store.export('{node="node-1",__name__!~"gpufleet_.*"}'));
  expect(differences(recorded, stored)).toEqual([]);
});
