import { expect, test } from 'vitest';
import { FleetStack } from '../support/fleet-stack.ts';
import { countSamples, differences, recordedSamples, storedSamples } from '../support/recorded-samples.ts';
import { until } from '../support/wait.ts';

const MACHINE = 'machine-1';
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('kill -9 of the aggregator, then the store, then the agent in mid-stream: no hole and no duplicate', {
  timeout: 180_000,
}, async () => {
  await using stack = await FleetStack.start({
    agent: { collection_interval: '200ms', collectors: { simulated: { gpus: 8, seed: 7 } } },
  });
  const { store } = stack;
  const arriving = async (): Promise<void> => {
    const before = await store.metricSum('vm_rows_inserted_total');
    await until(async () => (await store.metricSum('vm_rows_inserted_total')) > before, {
      timeoutMs: 30_000,
      what: 'samples arrive',
    });
  };
  await arriving();

  await stack.aggregator!.kill9();
  await wait(1_500);
  await stack.startAggregator();
  await arriving();
  await wait(2_000);

  // Accepted samples of the last seconds are in the store's memory alone when it dies.
  await store.kill9();
  await wait(1_500);
  await store.restart();
  await arriving();
  await wait(2_000);

  await stack.agent!.kill9();
  await wait(500);
  await stack.startAgent();
  await arriving();
  await wait(6_000);

  await stack.drained();
  await stack.agent!.stop(8_000);
  const recorded = await recordedSamples(stack.agentDir, MACHINE);
  const stored = storedSamples(await store.export('{node="node-1",__name__!~"gpufleet_.*"}'));
  expect(countSamples(recorded)).toBeGreaterThan(8 * 40 * 30);
  expect(differences(recorded, stored)).toEqual([]);
  // Each tick of a run is one interval after the one before it: nothing was skipped either.
  const ticks = [...recorded.values()].reduce((longest, values) =>
    values.size > longest.size ? values : longest,
  );
  const gaps = [...ticks.keys()].sort((a, b) => a - b).map((at, i, all) => at - (all[i - 1] ?? at - 200));
  expect(
    gaps.filter((gap) => gap > 1_000).length,
    'only the restart of the agent leaves a gap',
  ).toBeLessThanOrEqual(1);
});
