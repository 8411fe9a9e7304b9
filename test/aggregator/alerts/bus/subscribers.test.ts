import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, it } from 'vitest';
import { type Alert, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { alertId } from '../../../../aggregator/alerts/alert-id.ts';
import { skipLoudly } from '../../../support/data.ts';
import { startNats } from '../../../support/nats-server.ts';
import { Child } from '../../../support/process.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { alertOf } from '../alert-of.ts';
import { drained, openBus } from './open-bus.ts';

const WAIT_MS = 20_000;

/** Two of each: clusters, nodes, GPUs, rules; firing. */
function eightAlerts(): Alert[] {
  const alerts: Alert[] = [];
  for (const cluster of ['east', 'west'])
    for (const node of ['n1.rack', 'n2.rack'])
      for (const rule of ['hot', 'slow']) {
        const gpuUuid = `GPU-${cluster}-${node.slice(0, 2)}`;
        const id = alertId(cluster, node, gpuUuid, rule, '');
        const severity = rule === 'hot' ? Severity.CRITICAL : Severity.WARNING;
        alerts.push(alertOf('0', 1, { cluster, node, rule, gpuUuid, id, severity }));
      }
  return alerts;
}

/** What a subscriber of each kind asks for, and which alerts it is to hear of. */
const WANTS: readonly [name: string, subject: string, of: (alert: Alert) => boolean][] = [
  ['all alerts', 'gpufleet.alerts.>', () => true],
  ['a cluster', 'gpufleet.alerts.east.>', ({ cluster }) => cluster === 'east'],
  ['a node, whose dots are %2E', 'gpufleet.alerts.*.n2%2Erack.>', ({ node }) => node === 'n2.rack'],
  ['a GPU', 'gpufleet.alerts.*.*.GPU-west-n1.>', ({ gpuUuid }) => gpuUuid === 'GPU-west-n1'],
  ['a rule', 'gpufleet.alerts.*.*.*.hot.>', ({ rule }) => rule === 'hot'],
];

const idsOf = (alerts: readonly Alert[]) => alerts.map(({ id }) => id).sort();

describe('subscribers by wildcard', () => {
  it('on core NATS hear at once of exactly the cluster, node, GPU or rule that they asked for', async () => {
    await using nats = await startNats();
    await using temp = tempDir('subscribers');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    const connection = await connect({ servers: nats.url });
    const heard = new Map<string, string[]>(WANTS.map(([name]) => [name, []]));
    for (const [name, subject] of WANTS) {
      connection.subscribe(subject, {
        callback: (_, message) => void heard.get(name)!.push(message.json<{ id: string }>().id),
      });
    }
    await connection.flush();
    for (const alert of eightAlerts()) opened.bus.publish(alert);
    await drained(opened.bus);
    await connection.flush();
    for (const [name, , of] of WANTS) {
      expect([name, heard.get(name)!.sort()]).toEqual([name, idsOf(eightAlerts().filter(of))]);
    }
    await connection.close();
  });

  it('with a durable consumer get the same, also what came while they were away, once', async () => {
    await using nats = await startNats();
    await using temp = tempDir('subscribers');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    await until(() => opened.bus.status().nats === 'connected', { timeoutMs: WAIT_MS, what: 'connected' });
    const take = async (index: number): Promise<string[]> => {
      const connection = await connect({ servers: nats.url });
      const jsm = await jetstreamManager(connection);
      await jsm.consumers.add('GPUFLEET_ALERTS', {
        durable_name: `team-${index}`,
        ack_policy: AckPolicy.Explicit,
        filter_subject: WANTS[index]![1],
      });
      const consumer = await jetstream(connection).consumers.get('GPUFLEET_ALERTS', `team-${index}`);
      const ids: string[] = [];
      const { num_pending } = await consumer.info();
      if (num_pending > 0) {
        for await (const message of await consumer.fetch({ max_messages: num_pending, expires: 5_000 })) {
          ids.push(message.json<{ id: string }>().id);
          await message.ackAck();
        }
      }
      await connection.close();
      return ids.sort();
    };
    for (const index of WANTS.keys()) expect(await take(index)).toEqual([]);
    for (const alert of eightAlerts()) opened.bus.publish(alert);
    await drained(opened.bus);
    for (const [index, [, , of]] of WANTS.entries()) {
      expect(await take(index)).toEqual(idsOf(eightAlerts().filter(of)));
      expect(await take(index)).toEqual([]);
    }
  });

  it('of one severity look at a header, without the body', async () => {
    await using nats = await startNats();
    await using temp = tempDir('subscribers');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    for (const alert of eightAlerts()) opened.bus.publish(alert);
    await drained(opened.bus);
    const connection = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(connection);
    await jsm.consumers.add('GPUFLEET_ALERTS', {
      ...{ durable_name: 'pager', ack_policy: AckPolicy.Explicit, headers_only: true },
    });
    const consumer = await jetstream(connection).consumers.get('GPUFLEET_ALERTS', 'pager');
    const critical: string[] = [];
    for await (const message of await consumer.fetch({ max_messages: 8, expires: 5_000 })) {
      expect(message.data).toHaveLength(0);
      if (message.headers!.get('Gpufleet-Severity') === 'critical') critical.push(message.subject);
      message.ack();
    }
    expect(critical).toHaveLength(4);
    expect(critical.every((subject) => subject.includes('.hot.'))).toBe(true);
    await connection.close();
  });
});

/** Any python3 does: the client uses its standard library alone. */
function hasPython(): boolean {
  try {
    execFileSync('python3', ['-c', 'import json, socket'], { stdio: 'ignore' });
    return true;
  } catch {
    skipLoudly('tests with a NATS client in Python: no python3');
    return false;
  }
}

interface PythonMessage {
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly id: string; readonly severity: string; readonly transition: string };
}

describe.skipIf(!hasPython())(
  'a client that we did not write: the plain protocol over a socket, in Python',
  () => {
    const start = (port: number, ...args: readonly string[]): Promise<Child> =>
      Child.start({
        name: 'subscriber.py',
        command: 'python3',
        args: [join(import.meta.dirname, 'subscriber.py'), '127.0.0.1', String(port), ...args],
      });

    /** Its lines, once it has ended by itself. */
    async function linesOf(child: Child): Promise<PythonMessage[]> {
      await until(() => child.exit !== undefined, {
        timeoutMs: WAIT_MS,
        what: 'it ends',
        detail: () => child.output,
      });
      expect([child.exit?.status, child.output]).toEqual([0, expect.any(String)]);
      return child.output
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as PythonMessage);
    }

    it('hears on core NATS of the alerts of a rule, with severity and state in headers', async () => {
      await using nats = await startNats();
      await using temp = tempDir('subscribers');
      await using opened = await openBus(join(temp.path, 'spool'), nats.url);
      await using python = await start(nats.port, 'core', 'gpufleet.alerts.*.*.*.hot.>', '4');
      await until(() => python.output.includes('ready'), { timeoutMs: WAIT_MS, what: 'it has subscribed' });
      for (const alert of eightAlerts()) opened.bus.publish(alert);
      const heard = await linesOf(python);
      expect(heard.map(({ body }) => body.id).sort()).toEqual(
        idsOf(eightAlerts().filter(({ rule }) => rule === 'hot')),
      );
      expect(heard[0]!.headers).toMatchObject({
        'Gpufleet-Severity': 'critical',
        'Gpufleet-State': 'firing',
        'Gpufleet-Schema': 'gpufleet.alert.v1.Alert',
        'Nats-Msg-Id': `${heard[0]!.body.id}:1`,
      });
      expect(heard[0]!.body).toMatchObject({ severity: 'SEVERITY_CRITICAL', transition: '1' });
    });

    it('takes from a durable consumer of a cluster, acknowledges, and gets nothing twice', async () => {
      await using nats = await startNats();
      await using temp = tempDir('subscribers');
      await using opened = await openBus(join(temp.path, 'spool'), nats.url);
      for (const alert of eightAlerts()) opened.bus.publish(alert);
      await drained(opened.bus);
      const take = async (count: number): Promise<PythonMessage[]> => {
        await using python = await start(nats.port, 'durable', 'gpufleet.alerts.west.>', String(count));
        return await linesOf(python);
      };
      const first = await take(3);
      const rest = await take(1);
      expect([...first, ...rest].map(({ body }) => body.id).sort()).toEqual(
        idsOf(eightAlerts().filter(({ cluster }) => cluster === 'west')),
      );
    });
  },
);
