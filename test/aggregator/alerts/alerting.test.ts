import { utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { Alerting, type AlertingOptions } from '../../../aggregator/alerts/alerting.ts';
import { createAlertBus } from '../../../aggregator/alerts/bus/alert-bus.ts';
import { openAlertSpool } from '../../../aggregator/alerts/bus/alert-spool.ts';
import { EventSpool } from '../../../aggregator/alerts/bus/event-spool.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { FakeShelf } from '../ledger/open-shelf.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, SOURCE, series } from './block-of.ts';

const DICTIONARY = dictionaryOf([series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }))]);
const rulesAt = (limit: number): string =>
  `rules: [{ name: hot, metric: gpu_temperature_celsius, severities: [{ severity: critical, above: ${limit} }] }]\n`;
const notifyTo = (receiver: string): string =>
  `route: { receiver: ${receiver} }\nreceivers: [{ name: ${receiver}, webhook: [{ url: 'http://127.0.0.1:9/' }] }]\n`;

type Name = 'rules' | 'notify' | 'actions';

const actionsOf = (name: string): string =>
  `policies: [{ name: ${name}, matchers: ['rule=hot'], steps: [{ mark: degraded }] }]\n`;

async function opened(files: Readonly<Record<Name, string>>, more: Partial<AlertingOptions> = {}) {
  const dir = tempDir('alerting');
  const path = (name: string): string => join(dir.path, `${name}.yaml`);
  const write = async (name: Name, text: string): Promise<void> => {
    await writeFile(path(name), text);
    // A file system's clock may be coarse: a write is a new time.
    stamp += 10;
    await utimes(path(name), stamp, stamp);
  };
  let stamp = 1_700_000_000;
  for (const name of ['rules', 'notify', 'actions'] as const) await write(name, files[name]);
  const clock = new ManualClock();
  const registry = createRegistry();
  const tools = { clock, registry, logger: silentLogger };
  const spool = await openAlertSpool(join(dir.path, 'spool'), tools);
  const events = await EventSpool.open(join(dir.path, 'events'), tools);
  const bus = await createAlertBus({ ...tools, nats: undefined, spool, events });
  const told: FleetEvent[] = [];
  const alerting = await Alerting.open({
    ...{
      ...tools,
      bus,
      nats: undefined,
      replicas: 1,
      shelf: new FakeShelf(),
      shard: 'agg-0',
      random: Math.random,
    },
    files: { rules: path('rules'), notify: path('notify'), actions: path('actions') },
    contextOf: () => ({ rack: 'r7' }),
    groupsOf: () => ({}),
    connected: () => true,
    hears: () => true,
    marks: () => [],
    fleet: {
      executorDeps: {
        marks: { get: () => undefined, set: async () => {}, clear: async () => {} },
        agents: { command: async () => ({ outcome: 'away', output: '' }) },
        ...{ clock, logger: silentLogger },
      },
      nodesOfPool: () => 0,
      poolOf: () => '',
    },
    onEvent: (event) => told.push(event),
    reloadEveryMs: 20,
    ...more,
  });
  const tick = (celsius: number): void => {
    clock.ms += 1_000;
    alerting.evaluate(blockOf(DICTIONARY, clock.ms, [celsius]));
  };
  return {
    ...{ alerting, write, clock, tick, told },
    async [Symbol.asyncDispose]() {
      await alerting[Symbol.asyncDispose]();
      await bus[Symbol.asyncDispose]();
      await spool[Symbol.asyncDispose]();
      await events[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

const soon = (look: () => unknown, what: string) => until(look, { timeoutMs: 10_000, what });

// Lost without it: a restart for each limit, and an outage for each typing error.
test('files that change are read again; one with a fault changes nothing, and says so', async () => {
  await using bed = await opened({
    rules: rulesAt(90),
    notify: notifyTo('people'),
    actions: actionsOf('mark-it'),
  });
  const { alerting, write, tick } = bed;
  const stop = new AbortController();
  const run = alerting.run(stop.signal);
  tick(95);
  const [alert] = [...alerting.engine.alerts()];
  expect(alert).toMatchObject({ rule: 'hot', labels: { rack: 'r7' } });
  await write('rules', 'rules: [{ name: hot }]\n');
  await soon(() => alerting.rules.fault, 'the fault is seen');
  expect(alerting.rules.fault).toMatch(/rules\.yaml:1:\d+/);
  tick(95);
  expect([...alerting.engine.alerts()]).toMatchObject([{ state: alert!.state }]);
  await write('rules', rulesAt(99));
  await soon(() => alerting.rules.fault === '', 'the good file is taken');
  tick(95);
  expect([...alerting.engine.alerts()][0]!.state).not.toBe(alert!.state);

  await write('notify', 'route: { receiver: nobody }\nreceivers: []\n');
  await soon(() => alerting.fileFaults.length > 0, 'the fault of the receivers is seen');
  expect(alerting.fileFaults[0]).toMatch(/notify file.*notify\.yaml:1:\d+/);
  await write('notify', notifyTo('others'));
  await soon(() => alerting.fileFaults.length === 0, 'the good receivers are taken');

  await write('actions', 'policies: [{ name: broken }]\n');
  await soon(() => alerting.fileFaults.length > 0, 'the fault of the policies is seen');
  expect(alerting.fileFaults[0]).toMatch(/actions file.*actions\.yaml:1:\d+/);
  await write('actions', actionsOf('other'));
  await soon(() => alerting.fileFaults.length === 0, 'the good policies are taken');
  stop.abort();
  await run;
});

test('a node in maintenance is silent for every rule, and speaks when it is over', async () => {
  const marks: { cluster: string; node: string; state: string; by: string; why: string }[] = [];
  await using bed = await opened(
    { rules: rulesAt(90), notify: notifyTo('people'), actions: actionsOf('mark-it') },
    { marks: () => marks },
  );
  const { alerting, tick } = bed;
  tick(95);
  const alert = [...alerting.engine.alerts()][0]!;
  expect(alerting.shown(alert).silencedBy).toEqual([]);
  marks.push({ cluster: SOURCE.cluster, node: SOURCE.node, state: 'maintenance', by: 'ann', why: 'fan' });
  alerting.advance();
  await alerting.marks.settled();
  expect(alerting.shown(alert).silencedBy).toHaveLength(1);
  expect(alerting.silences.list(false)).toMatchObject([{ fromMark: true, by: 'ann' }]);
  marks.length = 0;
  alerting.advance();
  await alerting.marks.settled();
  expect(alerting.shown(alert).silencedBy).toEqual([]);
});
