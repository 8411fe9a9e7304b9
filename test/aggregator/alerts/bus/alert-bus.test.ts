import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, it } from 'vitest';
import { AcknowledgementSchema, type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { createAlertBus } from '../../../../aggregator/alerts/bus/alert-bus.ts';
import { decodeAlert } from '../../../../aggregator/alerts/bus/alert-message.ts';
import { type AlertSpool, openAlertSpool } from '../../../../aggregator/alerts/bus/alert-spool.ts';
import { EventSpool } from '../../../../aggregator/alerts/bus/event-spool.ts';
import { startNats } from '../../../support/nats-server.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { alertOf } from '../alert-of.ts';
import { SOURCE, START_MS, xidEvent } from '../block-of.ts';
import { drained, openBus } from './open-bus.ts';

const STREAM = 'GPUFLEET_ALERTS';

interface Heard {
  readonly subject: string;
  readonly alert: Alert;
  readonly severity: string;
  readonly state: string;
}

/** What a durable consumer gets and acknowledges, from the stream's beginning or from where it was. */
async function hear(url: string, count: number): Promise<Heard[]> {
  const connection = await connect({ servers: url });
  const jsm = await jetstreamManager(connection);
  await until(() => jsm.streams.info(STREAM), { timeoutMs: 20_000, what: 'the stream is there' });
  await jsm.consumers.add(STREAM, {
    durable_name: 'pager',
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
  });
  const consumer = await jetstream(connection).consumers.get(STREAM, 'pager');
  const heard: Heard[] = [];
  while (heard.length < count) {
    for await (const message of await consumer.fetch({
      max_messages: count - heard.length,
      expires: 5_000,
    })) {
      heard.push({
        subject: message.subject,
        alert: decodeAlert(message.string())!,
        severity: message.headers!.get('Gpufleet-Severity'),
        state: message.headers!.get('Gpufleet-State'),
      });
      await message.ackAck();
    }
  }
  expect((await consumer.info()).num_pending).toBe(0);
  await connection.close();
  return heard;
}

const ids = (heard: readonly Heard[]) => heard.map(({ alert }) => `${alert.gpu}:${alert.transition}`);

describe('the alert bus', () => {
  it('brings each transition to a durable subscriber once, with subject and headers to filter by', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    opened.bus.publish(alertOf('0', 1));
    opened.bus.publish(alertOf('0', 2));
    await drained(opened.bus);
    const heard = await hear(nats.url, 2);
    expect(ids(heard)).toEqual(['0:1', '0:2']);
    expect(heard[0]).toMatchObject({
      subject: 'gpufleet.alerts.east.n1%2Erack.0.hot._',
      severity: 'critical',
      state: 'firing',
    });
    expect(heard[1]!.state).toBe('resolved');
    expect(heard[0]!.alert).toEqual(alertOf('0', 1));
  });

  it('brings each transition once and in order though NATS is killed in the middle', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    const gpus = ['0', '1', '2', '3', '4', '5', '6', '7'];
    const publish = (from: number, to: number) => {
      for (let t = from; t <= to; t++) for (const gpu of gpus) opened.bus.publish(alertOf(gpu, t));
    };
    publish(1, 4);
    await drained(opened.bus);
    publish(5, 8);
    await until(() => opened.bus.status().waiting < 32, { timeoutMs: 10_000, what: 'some went out' });
    await nats.kill9();
    publish(9, 12);
    await until(() => opened.bus.status().nats === 'disconnected', {
      timeoutMs: 10_000,
      what: 'the bus sees that NATS is gone',
    });
    expect(opened.bus.status().reason).not.toBe('');
    await nats.restart();
    await drained(opened.bus);
    const heard = await hear(nats.url, 12 * gpus.length);
    for (const gpu of gpus) {
      expect(
        heard.filter(({ alert }) => alert.gpu === gpu).map(({ alert }) => Number(alert.transition)),
      ).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }
  });

  it('starts without NATS and without waiting for it; what gathered goes out when it comes', async () => {
    await using nats = await startNats();
    await nats.kill9();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    // More than the window in memory: the rest is read back from disk, in order.
    const count = 4_500;
    for (let t = 1; t <= count; t++) opened.bus.publish(alertOf('0', t));
    for (let t = 1; t <= 20; t++) opened.bus.publish(alertOf('1', t));
    await until(() => opened.spool.waitingCount === count + 20, { timeoutMs: 10_000, what: 'all on disk' });
    expect(opened.bus.status()).toMatchObject({ nats: 'disconnected', waiting: count + 20 });
    expect(await opened.registry.metrics()).toContain('gpufleet_nats_connected 0');
    await nats.restart();
    await drained(opened.bus);
    // The stream keeps the last 64 of an alert.
    const heard = await hear(nats.url, 64 + 20);
    const of = (gpu: string) => ids(heard.filter(({ alert }) => alert.gpu === gpu));
    expect(of('0')).toEqual(Array.from({ length: 64 }, (_, i) => `0:${count - 63 + i}`));
    expect(of('1')).toEqual(Array.from({ length: 20 }, (_, i) => `1:${i + 1}`));
    expect(await opened.registry.metrics()).toContain(
      `gpufleet_alert_published_total{outcome="publish"} ${count + 20}`,
    );
  });

  it('publishes after a restart what a crash left between the disk and NATS', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    const folder = join(temp.path, 'spool');
    {
      await using spool = await openAlertSpool(folder, { logger: silentLogger, registry: createRegistry() });
      await spool.append([alertOf('0', 1), alertOf('0', 2)], START_MS, true);
    }
    await using opened = await openBus(folder, nats.url);
    await drained(opened.bus);
    expect(ids(await hear(nats.url, 2))).toEqual(['0:1', '0:2']);
  });

  it('does not repeat after a restart what a crash left between NATS and its mark', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    const folder = join(temp.path, 'spool');
    {
      await using opened = await openBus(folder, nats.url);
      opened.bus.publish(alertOf('0', 1));
      opened.bus.publish(alertOf('0', 2));
      await drained(opened.bus);
      await opened.bus[Symbol.asyncDispose]();
      await opened.spool.requeue([1, 2]);
    }
    await using opened = await openBus(folder, nats.url);
    expect(opened.bus.status().waiting).toBe(2);
    await drained(opened.bus);
    expect(ids(await hear(nats.url, 2))).toEqual(['0:1', '0:2']);
  });

  it('publishes again what a NATS restored from a backup has lost', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    opened.bus.publish(alertOf('0', 1));
    await drained(opened.bus);
    await nats.stop();
    await cp(nats.dataDir, join(temp.path, 'backup'), { recursive: true });
    await nats.restart();
    for (let t = 2; t <= 3; t++) opened.bus.publish(alertOf('0', t));
    opened.bus.publish(alertOf('1', 1));
    await drained(opened.bus);
    await nats.stop();
    await rm(nats.dataDir, { recursive: true });
    await cp(join(temp.path, 'backup'), nats.dataDir, { recursive: true });
    await nats.restart();
    const heard = await hear(nats.url, 4);
    expect(ids(heard).sort()).toEqual(['0:1', '0:2', '0:3', '1:1']);
    await drained(opened.bus);
  });

  it('publishes again what such a NATS has lost though others have written to it since', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    const folder = join(temp.path, 'spool');
    {
      await using opened = await openBus(folder, nats.url);
      opened.bus.publish(alertOf('0', 1));
      await drained(opened.bus);
      await nats.stop();
      await cp(nats.dataDir, join(temp.path, 'backup'), { recursive: true });
      await nats.restart();
      opened.bus.publish(alertOf('0', 2));
      await drained(opened.bus);
    }
    await nats.stop();
    await rm(nats.dataDir, { recursive: true });
    await cp(join(temp.path, 'backup'), nats.dataDir, { recursive: true });
    await nats.restart();
    const connection = await connect({ servers: nats.url });
    for (let i = 0; i < 3; i++) await jetstream(connection).publish('gpufleet.alerts.of.somebody.else', '{}');
    await connection.close();
    await using opened = await openBus(folder, nats.url);
    await until(async () => (await opened.spool.tail())?.seq === 5, {
      timeoutMs: 10_000,
      what: 'all is sent',
    });
    expect((await opened.bus.lastStates()).map(({ transition }) => transition)).toEqual([2n]);
  });

  it('publishes again, in order, what it kept of a stream that was deleted', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    for (let t = 1; t <= 3; t++) opened.bus.publish(alertOf('0', t));
    await drained(opened.bus);
    const connection = await connect({ servers: nats.url });
    await (await jetstreamManager(connection)).streams.delete(STREAM);
    await connection.close();
    await nats.kill9();
    await nats.restart();
    expect(ids(await hear(nats.url, 3))).toEqual(['0:1', '0:2', '0:3']);
    await drained(opened.bus);
  });

  // The server answers "bad request" to a question for message 0: the aggregator would never be on NATS again.
  it('connects again after a stream was lost of which there was nothing to publish again', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    await drained(opened.bus);
    await opened.spool.sent([], { created: 'another', seq: 5, messageId: 'x:1' });
    for (let times = 0; times < 2; times++) {
      await nats.kill9();
      await until(() => opened.bus.status().nats === 'disconnected', {
        timeoutMs: 10_000,
        what: 'NATS gone',
      });
      await nats.restart();
      await until(() => opened.bus.status().nats === 'connected', { timeoutMs: 15_000, what: 'NATS back' });
      expect(await opened.spool.tail()).toMatchObject({ seq: 0 });
    }
    opened.bus.publish(alertOf('0', 1));
    expect(ids(await hear(nats.url, 1))).toEqual(['0:1']);
  });

  it('knows how far the stream is after it went back, and does not take it for lost each time it connects', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    opened.bus.publish(alertOf('0', 1));
    await drained(opened.bus);
    await nats.stop();
    await cp(nats.dataDir, join(temp.path, 'backup'), { recursive: true });
    await nats.restart();
    const connection = await connect({ servers: nats.url });
    for (let i = 0; i < 5; i++) await jetstream(connection).publish('gpufleet.alerts.of.somebody.else', '{}');
    await connection.close();
    opened.bus.publish(alertOf('0', 2));
    await drained(opened.bus);
    expect(await opened.spool.tail()).toMatchObject({ seq: 7 });
    await nats.stop();
    await rm(nats.dataDir, { recursive: true });
    await cp(join(temp.path, 'backup'), nats.dataDir, { recursive: true });
    await nats.restart();
    expect(ids(await hear(nats.url, 2))).toEqual(['0:1', '0:2']);
    await until(async () => (await opened.spool.tail())?.seq === 2, {
      timeoutMs: 10_000,
      what: 'the end of the stream is known',
    });
  });

  it('refuses a second owner with older news, and lets one with newer news go on from the count', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using owner = await openBus(join(temp.path, 'a'), nats.url);
    await using second = await openBus(join(temp.path, 'b'), nats.url);
    for (let t = 1; t <= 3; t++) owner.bus.publish(alertOf('0', t));
    await drained(owner.bus);
    // Its own first transition, of a sample older than the owner's last.
    second.bus.publish(alertOf('0', 1, { state: AlertState.RESOLVED }));
    await drained(second.bus);
    expect(await second.registry.metrics()).toContain(
      'gpufleet_alert_published_total{outcome="superseded"} 1',
    );
    // And one that is newer: it counts on.
    const newer = { state: AlertState.RESOLVED, updatedAt: timestampFromMs(START_MS + 60_000) };
    second.bus.publish(alertOf('0', 2, newer));
    await drained(second.bus);
    const heard = await hear(nats.url, 4);
    expect(ids(heard)).toEqual(['0:1', '0:2', '0:3', '0:4']);
    expect(heard[3]!.state).toBe('resolved');
  });

  // The time of its sample stays the same, so that only the count says that it is news.
  it('brings an acknowledgement, and that it was taken back, of an owner whose count is behind', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using owner = await openBus(join(temp.path, 'a'), nats.url);
    await using second = await openBus(join(temp.path, 'b'), nats.url);
    for (let t = 1; t <= 4; t++) owner.bus.publish(alertOf('0', t));
    await drained(owner.bus);
    const fires = { state: AlertState.FIRING, updatedAt: timestampFromMs(START_MS + 60_000) };
    const acknowledged = create(AcknowledgementSchema, { by: 'ada', at: timestampFromMs(START_MS + 70_000) });
    second.bus.publish(alertOf('0', 1, fires));
    second.bus.publish(alertOf('0', 2, { ...fires, acknowledged }));
    second.bus.publish(alertOf('0', 3, fires));
    await drained(second.bus);
    const heard = await hear(nats.url, 7);
    expect(heard.slice(4).map(({ alert }) => [Number(alert.transition), alert.acknowledged?.by])).toEqual([
      [5, undefined],
      [6, 'ada'],
      [7, undefined],
    ]);
  });

  it('brings an alert that was forgotten and fires anew within the two minutes of message ids', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    opened.bus.publish(alertOf('0', 1));
    opened.bus.publish(alertOf('0', 2));
    await drained(opened.bus);
    opened.bus.publish(alertOf('0', 1, { updatedAt: timestampFromMs(START_MS + 90_000) }));
    await drained(opened.bus);
    const heard = await hear(nats.url, 3);
    expect(ids(heard)).toEqual(['0:1', '0:2', '0:3']);
    expect(heard[2]!.state).toBe('firing');
  });

  it('gives a new aggregator the state of every alert from the stream alone', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    {
      await using opened = await openBus(join(temp.path, 'a'), nats.url);
      for (let gpu = 0; gpu < 50; gpu++) opened.bus.publish(alertOf(String(gpu), 1));
      opened.bus.publish(alertOf('7', 2));
      await drained(opened.bus);
    }
    await using fresh = await openBus(join(temp.path, 'b'), nats.url);
    const states = await fresh.bus.lastStates(20_000);
    expect(states).toHaveLength(50);
    expect(states.find((alert) => alert.gpu === '7')).toEqual(alertOf('7', 2));
    fresh.bus.publish(alertOf('7', 3));
    await drained(fresh.bus);
    expect(ids(await hear(nats.url, 52)).at(-1)).toBe('7:3');
  });

  it('leaves alone a stream that is there, and says so where it does not take the subjects', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    const connection = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(connection);
    await jsm.streams.add({ name: STREAM, subjects: ['something.else'] });
    await connection.close();
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    await until(() => opened.bus.status().reason.includes('does not take gpufleet.alerts.>'), {
      timeoutMs: 10_000,
      what: 'the reason',
    });
    expect(opened.bus.status().nats).toBe('disconnected');
  });

  it('brings the text of events, once', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), nats.url);
    await opened.bus.publishEvent(SOURCE, xidEvent(79, START_MS), true);
    await opened.bus.publishEvent(SOURCE, xidEvent(79, START_MS), true);
    const connection = await connect({ servers: nats.url });
    await until(() => opened.bus.status().nats === 'connected', {
      timeoutMs: 10_000,
      what: 'connected',
    });
    const jsm = await jetstreamManager(connection);
    const subject = 'gpufleet.events.east.gpu-07%2Erack3.xid';
    const message = await until(
      async () => (await jsm.streams.getMessage('GPUFLEET_EVENTS', { last_by_subj: subject })) ?? undefined,
      { timeoutMs: 10_000, what: 'the event' },
    );
    expect(message?.json()).toMatchObject({
      node: 'gpu-07.rack3',
      gpu_uuid: 'GPU-0',
      late: true,
      attributes: { code: '79' },
    });
    await opened.bus[Symbol.asyncDispose]();
    expect((await jsm.streams.info('GPUFLEET_EVENTS')).state.messages).toBe(1);
    await connection.close();
  });

  it('without NATS keeps the last states on disk for the next start', async () => {
    await using temp = tempDir('bus');
    const folder = join(temp.path, 'spool');
    {
      await using opened = await openBus(folder, undefined);
      opened.bus.publish(alertOf('0', 1));
      await opened.bus.publishEvent(SOURCE, xidEvent(79, START_MS), false);
      expect(opened.bus.status().nats).toBe('off');
    }
    await using opened = await openBus(folder, undefined);
    expect(await opened.bus.lastStates()).toEqual([alertOf('0', 1)]);
  });

  it('publishes from memory where the disk refuses: an alert that nobody hears is worse than one a crash would lose', async () => {
    await using nats = await startNats();
    await using temp = tempDir('bus');
    const registry = createRegistry();
    await using real = await openAlertSpool(join(temp.path, 'spool'), { logger: silentLogger, registry });
    const spool: AlertSpool = Object.assign(Object.create(real) as AlertSpool, {
      append: () => Promise.reject(new Error('ENOSPC: no space left on device')),
      sent: (...args: Parameters<AlertSpool['sent']>) => real.sent(...args),
      waiting: (...args: Parameters<AlertSpool['waiting']>) => real.waiting(...args),
      tail: () => real.tail(),
    });
    Object.defineProperty(spool, 'waitingCount', { get: () => real.waitingCount });
    await using events = await EventSpool.open(join(temp.path, 'events'), { logger: silentLogger, registry });
    await using bus = await createAlertBus({
      nats: { servers: [nats.url] },
      spool,
      events,
      clock: systemClock,
      logger: silentLogger,
      registry,
    });
    await until(() => bus.status().nats === 'connected', { timeoutMs: 10_000, what: 'connected' });
    bus.publish(alertOf('0', 1));
    expect(ids(await hear(nats.url, 1))).toEqual(['0:1']);
    expect(await registry.metrics()).toContain('gpufleet_alert_bus_dropped_total{reason="disk"} 1');
  });

  it('loses nothing of 60,000 transitions given in one go: a storm is when they are needed', async () => {
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), undefined);
    for (let gpu = 0; gpu < 60_000; gpu++) opened.bus.publish(alertOf(String(gpu), 1));
    await opened.bus.written();
    let states = 0;
    for await (const _ of opened.spool.states()) states++;
    expect(states).toBe(60_000);
    expect(await opened.registry.metrics()).not.toContain('gpufleet_alert_bus_dropped_total{');
  });

  it('holds a bounded number of transitions that are not yet on disk, and counts the rest', async () => {
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), undefined, { maxUnwritten: 100 });
    const alert = alertOf('0', 1);
    // The first goes into the write that starts at once; nothing is written before this loop ends.
    for (let i = 0; i < 100 + 3; i++) opened.bus.publish(alert);
    expect(await opened.registry.metrics()).toContain(
      'gpufleet_alert_bus_dropped_total{reason="queue_full"} 2',
    );
  });

  it('disposes twice as once, and counts what comes after', async () => {
    await using temp = tempDir('bus');
    await using opened = await openBus(join(temp.path, 'spool'), undefined);
    await Promise.all([opened.bus[Symbol.asyncDispose](), opened.bus[Symbol.asyncDispose]()]);
    opened.bus.publish(alertOf('0', 1));
    expect(await opened.registry.metrics()).toContain('gpufleet_alert_bus_dropped_total{reason="closed"} 1');
  });
});
