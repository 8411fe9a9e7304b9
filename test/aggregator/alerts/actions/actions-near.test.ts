import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { expect, it } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import {
  ALERT_SUBJECTS,
  alertSubject,
  encodeAlert,
} from '../../../../aggregator/alerts/bus/alert-message.ts';
import { ensureStream } from '../../../../aggregator/alerts/bus/nats-link.ts';
import { startNats } from '../../../support/nats-server.ts';
import { until } from '../../../support/wait.ts';
import { criticalAlert, JumpingClock, policyFile, startActions } from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { RecordingMachines } from './recording-machines.ts';

// Lost without it: a command, or a mark, is asked of an aggregator that the node's agent is not connected to, for ever.
it('goes to the aggregator that the agent is connected to, also where another has begun in vain', async () => {
  await using server = await startNats();
  const connection = await connect({ servers: server.url });
  const settings = {
    ...{ name: 'GPUFLEET_ALERTS', replicas: 1, maxBytes: 2 ** 26, maxAgeMs: 0, maxPerSubject: 64 },
  };
  await ensureStream(await jetstreamManager(connection), settings, ALERT_SUBJECTS);
  const bucket = new MemoryBucket();
  const clock = new JumpingClock();
  const launch = (shard: string, machines: RecordingMachines, near: boolean) =>
    startActions(policyFile(['max_share: 1']), machines, bucket.client(), {
      ...{ shard, clock, nats: { servers: [server.url] } },
      executorDeps: {
        marks: { get: () => undefined, set: async () => {}, clear: async () => {} },
        agents: { connected: () => near, command: async () => ({ outcome: 'away', output: '' }) },
        ...{ clock, logger: silentLogger },
      },
    });
  const publish = async (node: string): Promise<void> => {
    const alert = criticalAlert(node, clock.now());
    await jetstream(connection).publish(alertSubject(alert), encodeAlert(alert));
  };
  const far = new RecordingMachines();
  far.answer = () => ({ outcome: 'retry', why: 'its agent is not connected to this aggregator' });
  const elsewhere = await launch('far', far, false);
  await publish('n0');
  await until(() => elsewhere.actions.list().length > 0, { timeoutMs: 20_000, what: 'the action is there' });
  clock.offsetMs += 11_000;
  await until(() => elsewhere.actions.list()[0]!.why.includes('not connected'), {
    timeoutMs: 20_000,
    what: 'it is tried where nobody is nearer',
  });
  const near = new RecordingMachines();
  const here = await launch('near', near, true);
  for (let i = 1; i <= 8; i++) await publish(`n${i}`);
  await until(() => here.actions.list({ state: 'done' }).length === 9, {
    timeoutMs: 20_000,
    what: 'all are done',
    detail: () => JSON.stringify(here.actions.list().map(({ state, why, owner }) => [state, why, owner])),
  });
  expect(near.out.size).toBe(9);
  expect(new Set(far.calls)).toEqual(new Set(['drain n0']));
  await here[Symbol.asyncDispose]();
  await elsewhere[Symbol.asyncDispose]();
  await connection.close();
}, 60_000);
