import { connect } from '@nats-io/transport-node';
import { expect, test } from 'vitest';
import { FleetStack } from '../support/fleet-stack.ts';
import { differences, recordedSamples, storedSamples } from '../support/recorded-samples.ts';
import { startTextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const page = (celsius: number, xid = 0): string =>
  [
    `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",modelName="NVIDIA H100"} ${celsius}`,
    `DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-0",modelName="NVIDIA H100"} ${xid}`,
    '',
  ].join('\n');

interface AlertBody {
  readonly rule: string;
  readonly state: string;
  readonly late?: boolean;
}

// Lost without it: the one error that explains why a node fell out of the network in the first place.
test('an Xid that happened while the aggregator was away alerts afterwards, marked late; gauges of then do not', {
  timeout: 120_000,
}, async () => {
  await using exporter = await startTextServer(page(50));
  await using stack = await FleetStack.start({
    agent: { collection_interval: '200ms', collectors: { dcgm_exporter: { url: exporter.url } } },
  });
  const connection = await connect({ servers: stack.nats.url });
  try {
    const heard: AlertBody[] = [];
    connection.subscribe('gpufleet.alerts.>', {
      callback: (_, message) => {
        heard.push(JSON.parse(message.string()) as AlertBody);
      },
    });
    await until(async () => (await stack.store.metricSum('vm_rows_inserted_total')) > 0, {
      timeoutMs: 20_000,
      what: 'samples arrive',
    });
    await stack.aggregator!.kill9();
    const pass = async (requests: number): Promise<void> => {
      const seen = exporter.requests;
      await until(() => exporter.requests > seen + requests, {
        timeoutMs: 20_000,
        what: 'scrapes in the cut',
      });
    };
    exporter.text = page(97, 79);
    await pass(10);
    // The temperature is over before the aggregator is back; the Xid has happened.
    exporter.text = page(50, 79);
    await pass(10);
    expect(heard).toEqual([]);

    await stack.startAggregator();
    await until(() => heard.some(({ rule }) => rule === 'gpu-xid-critical'), {
      timeoutMs: 30_000,
      what: 'the alert of the Xid',
    });
    await stack.drained();
    // That the GPU is lost, and health's own word, come with it; no temperature does.
    const firing = heard.filter(({ state }) => state === 'ALERT_STATE_FIRING');
    expect(firing.sort((a, b) => (a.rule < b.rule ? -1 : 1))).toMatchObject([
      { rule: 'gpu-critical' },
      { rule: 'gpu-lost', late: true },
      { rule: 'gpu-xid-critical', late: true },
    ]);
    await stack.agent!.stop(8_000);
    const recorded = await recordedSamples(stack.agentDir, 'machine-1');
    const stored = storedSamples(await stack.store.export('{node="node-1",__name__!~"gpufleet_.*"}'));
    expect(differences(recorded, stored)).toEqual([]);
  } finally {
    await connection.close();
  }
});
