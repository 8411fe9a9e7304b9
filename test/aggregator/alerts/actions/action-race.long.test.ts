import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, it } from 'vitest';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AuditFact } from '../../../../aggregator/alerts/audit/audit-entry.ts';
import {
  ALERT_SUBJECTS,
  alertSubject,
  encodeAlert,
} from '../../../../aggregator/alerts/bus/alert-message.ts';
import { ensureStream } from '../../../../aggregator/alerts/bus/nats-link.ts';
import type { ControlShelf } from '../../../../aggregator/alerts/control/control-shelf.ts';
import { openControlStore } from '../../../../aggregator/alerts/control/open-control-store.ts';
import { startNats } from '../../../support/nats-server.ts';
import { seededRandom } from '../../../support/random.ts';
import { until } from '../../../support/wait.ts';
import { CuttableProxy } from './cuttable-proxy.ts';
import { criticalAlert, type OpenedActions, policyFile, resolved, startActions } from './fleet-of-actions.ts';
import { Mortal } from './mortal.ts';
import { RecordingMachines } from './recording-machines.ts';

const POOLS = 4;
const NODES_PER_POOL = 50;
/** 10 % of 50. */
const ALLOWED = 5;
/** Leases of 30 s run out in 6 s. */
const SPEED = 5;

const FILE = policyFile(['undo: on_resolve', 'max_share: 0.1'], ['note: true', 'drain: true']);

const poolOf = (node: string) => node.split('-')[0]!;

/** A shelf that keeps nothing: the bucket is what the instances share. */
const emptyShelf: ControlShelf = { write: async () => {}, async *entries() {} };

function fastClock(): Clock {
  const start = performance.now();
  const wall = Date.now();
  const passed = () => (performance.now() - start) * SPEED;
  return { now: () => wall + Math.floor(passed()), monotonic: passed };
}

interface Instance {
  readonly opened: OpenedActions;
  readonly cut: () => void;
  readonly kill: () => Promise<void>;
  readonly close: () => Promise<void>;
}

interface Shared {
  readonly port: number;
  readonly machines: RecordingMachines;
  readonly audit: AuditFact[];
  readonly clock: Clock;
  readonly random: () => number;
}

async function launch(shard: string, { port, machines, audit, clock, random }: Shared): Promise<Instance> {
  const mortal = new Mortal();
  const proxy = await CuttableProxy.open(port);
  const registry = createRegistry();
  const nats = { servers: [proxy.url] };
  const control = await openControlStore({
    ...{ nats, local: emptyShelf, clock, logger: silentLogger, registry, random },
  });
  const seen = machines.seenBy(() =>
    mortal.touch(() => new Promise((resolve) => setTimeout(resolve, random() * 20))),
  );
  const opened = await startActions(FILE, seen, mortal.control(control), {
    ...{ nats, clock, random, registry, shard, nodesOfPool: () => NODES_PER_POOL },
    poolOf: (_cluster, node) => poolOf(node),
    audit: { write: (fact) => mortal.touch(async () => void audit.push(fact)) },
  });
  const close = async (): Promise<void> => {
    await proxy[Symbol.asyncDispose]();
    await control[Symbol.asyncDispose]();
  };
  return {
    opened,
    cut: () => proxy.cut(),
    async kill() {
      mortal.dead = true;
      // What it still hopes for never comes; its run does not end, as that of a killed process does not.
      void opened.stop();
      await close();
    },
    async close() {
      await opened[Symbol.asyncDispose]();
      await close();
    },
  };
}

describe('several aggregators over one consumer', () => {
  it('never take out more than the share, and end every action, though they are killed and cut off', async () => {
    await using server = await startNats();
    const connection = await connect({ servers: server.url });
    const settings = {
      name: 'GPUFLEET_ALERTS',
      replicas: 1,
      maxBytes: 2 ** 28,
      maxAgeMs: 0,
      maxPerSubject: 64,
    };
    await ensureStream(await jetstreamManager(connection), settings, ALERT_SUBJECTS);
    const js = jetstream(connection);
    const publish = (alert: Alert) => js.publish(alertSubject(alert), encodeAlert(alert));
    const random = seededRandom(11);
    const machines = new RecordingMachines();
    const most = new Map<string, number>();
    machines.onOut = () => {
      const out = new Map<string, number>();
      for (const node of machines.out.keys()) out.set(poolOf(node), (out.get(poolOf(node)) ?? 0) + 1);
      for (const [pool, count] of out) most.set(pool, Math.max(most.get(pool) ?? 0, count));
    };
    const audit: AuditFact[] = [];
    const clock = fastClock();
    const shared: Shared = { port: server.port, machines, audit, clock, random };
    const instances = await Promise.all(['s0', 's1', 's2'].map((shard) => launch(shard, shared)));
    const alerts = new Map<string, Alert>();
    for (let i = 0; i < POOLS * NODES_PER_POOL; i++) {
      const node = `p${i % POOLS}-${i}`;
      alerts.set(node, criticalAlert(node, clock.now()));
    }
    await Promise.all(Array.from(alerts.values(), publish));
    const repaired = new Set<string>();
    let round = 0;
    const total = alerts.size;
    const list = () => instances.flatMap(({ opened }) => opened.actions.list());
    const detail = (): string => {
      const states = instances[0]!.opened.actions.list().map(({ state, why }) => `${state}: ${why}`);
      return JSON.stringify([repaired.size, states.slice(0, 12)]);
    };
    const isFull = (pool: string): boolean =>
      [...machines.out.keys()].filter((node) => poolOf(node) === pool).length >= ALLOWED;
    const waits = (pool: string): boolean =>
      instances[0]!.opened.actions.list({ state: 'pending' }).some((action) => action.pool === pool);
    /** Repairs what is drained, which makes room, and now and then breaks something. */
    const step = async (): Promise<boolean> => {
      for (const { target, state } of list()) {
        const alert = alerts.get(target.node)!;
        if (state !== 'done' || repaired.has(target.node)) continue;
        // Not at once: the pools are to be full, with others waiting for room.
        if (!isFull(poolOf(target.node)) && waits(poolOf(target.node))) continue;
        repaired.add(target.node);
        await publish(resolved(alert, clock.now()));
      }
      round++;
      const victim = Math.floor(random() * instances.length);
      if (round % 30 === 0 && repaired.size < total * 0.8) instances[victim]!.cut();
      if (round % 60 === 30 && round < 200) {
        await instances[victim]!.kill();
        instances[victim] = await launch(`s${victim}`, shared);
      }
      const ended = instances[0]!.opened.actions.list({ state: 'undone' });
      return ended.length === total && ended.every(({ holds, outbox }) => !holds && outbox.length === 0);
    };
    await until(step, { timeoutMs: 150_000, everyMs: 50, what: 'every action has ended', detail });
    expect(Object.fromEntries(most)).toEqual({ p0: ALLOWED, p1: ALLOWED, p2: ALLOWED, p3: ALLOWED });
    expect(machines.out.size).toBe(0);
    // Two steps for each node, each with one effect, however often it was tried.
    expect([...machines.effects.values()]).toEqual(Array.from({ length: 2 * total }, () => 1));
    const ids = new Set(instances[0]!.opened.actions.list().map(({ id }) => id));
    expect(ids.size).toBe(total);
    for (const what of ['create', 'begin', 'step', 'done', 'undo', 'undo_step', 'undone'])
      expect(
        new Set(audit.filter((fact) => fact.what === `action.${what}`).map(({ subject }) => subject)),
      ).toEqual(ids);
    for (const instance of instances) await instance.close();
    await connection.close();
  }, 170_000);
});
