import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { EventPublisher } from '../../../../aggregator/alerts/bus/event-publisher.ts';
import { EventSpool, type SpooledEvent } from '../../../../aggregator/alerts/bus/event-spool.ts';
import type { NatsSession } from '../../../../aggregator/alerts/bus/nats-link.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { SOURCE, START_MS, xidEvent } from '../block-of.ts';

const open = (folder: string, maxEvents?: number) => {
  const registry = createRegistry();
  return EventSpool.open(folder, {
    logger: silentLogger,
    registry,
    ...(maxEvents !== undefined && { maxEvents }),
  }).then((spool) => ({ spool, registry }));
};

/** What the publisher needs of a session; `take` may throw. */
const sessionOf = (take: (subject: string, body: string) => void): NatsSession =>
  ({
    js: { publish: async (subject: string, body: string) => take(subject, body) },
  }) as unknown as NatsSession;

it('an event that was taken outlives the process and is published by the next one, in order', async () => {
  await using temp = tempDir('events');
  const folder = join(temp.path, 'events');
  {
    const { spool } = await open(folder);
    await using _ = spool;
    const publisher = new EventPublisher(spool, silentLogger);
    for (let i = 0; i < 40; i++) await publisher.publish(SOURCE, xidEvent(79, START_MS + i), false);
  }
  const { spool } = await open(folder);
  await using _ = spool;
  expect(spool.count).toBe(40);
  const times: string[] = [];
  const publisher = new EventPublisher(spool, silentLogger);
  publisher.begin(sessionOf((_subject, body) => times.push((JSON.parse(body) as { time: string }).time)));
  await until(() => spool.count === 0, { timeoutMs: 10_000, what: 'all are published' });
  expect(times).toEqual(Array.from({ length: 40 }, (_, i) => new Date(START_MS + i).toISOString()));
});

it('what NATS does not take stays, and goes out with the next session', async () => {
  await using temp = tempDir('events');
  const { spool } = await open(join(temp.path, 'events'));
  await using _ = spool;
  const publisher = new EventPublisher(spool, silentLogger);
  publisher.begin(
    sessionOf(() => {
      throw new Error('timeout');
    }),
  );
  await publisher.publish(SOURCE, xidEvent(79, START_MS), false);
  await publisher.settled();
  expect(spool.count).toBe(1);
  const heard: string[] = [];
  publisher.begin(sessionOf((subject) => heard.push(subject)));
  await until(() => spool.count === 0, { timeoutMs: 10_000, what: 'it is published' });
  expect(heard).toHaveLength(1);
});

it('the same event, live and again as backlog, has one id: the stream keeps one', async () => {
  await using temp = tempDir('events');
  const { spool } = await open(join(temp.path, 'events'));
  await using _ = spool;
  const publisher = new EventPublisher(spool, silentLogger);
  await publisher.publish(SOURCE, xidEvent(79, START_MS), false);
  await publisher.publish(SOURCE, xidEvent(79, START_MS), true);
  await publisher.publish(SOURCE, xidEvent(48, START_MS), true);
  const ids = (await spool.after(0, 10)).map(({ event }) => event.id);
  expect(ids[0]).toBe(ids[1]);
  expect(ids[2]).not.toBe(ids[0]);
});

it('events that wait for NATS are bounded: the oldest go, counted, and the aggregator lives', async () => {
  await using temp = tempDir('events');
  const { spool, registry } = await open(join(temp.path, 'events'), 2_000);
  await using _ = spool;
  const event = (i: number): SpooledEvent => ({ subject: 's', id: String(i), body: '{}' });
  await Promise.all(Array.from({ length: 2_005 }, (_, i) => spool.append(event(i))));
  await until(() => spool.count <= 2_000, { timeoutMs: 10_000, what: 'the oldest are gone' });
  const [oldest] = await spool.after(0, 1);
  expect(Number(oldest!.event.id)).toBeGreaterThanOrEqual(5);
  expect(await registry.metrics()).toContain(`gpufleet_events_dropped_total ${2_005 - spool.count}`);
});

it('an event that comes the moment after a write is written too, and does not wait for the next one', async () => {
  await using temp = tempDir('events');
  const { spool } = await open(join(temp.path, 'events'));
  await using _ = spool;
  const event = (id: string): SpooledEvent => ({ subject: 's', id, body: '{}' });
  await until(
    () =>
      spool
        .append(event('a'))
        .then(() => spool.append(event('b')))
        .then(() => true),
    {
      timeoutMs: 5_000,
      what: 'both are on disk',
    },
  );
  expect(spool.count).toBe(2);
});

it('behind a disk that hangs a bounded number of events waits: the rest stays with its agents', async () => {
  await using temp = tempDir('events');
  const { spool } = await open(join(temp.path, 'events'));
  await using _ = spool;
  const event = (i: number): SpooledEvent => ({ subject: 's', id: String(i), body: '{}' });
  // The first is in the write that is under way.
  const taken = await Promise.allSettled(Array.from({ length: 10_003 }, (_, i) => spool.append(event(i))));
  const refused = taken.filter((one) => one.status === 'rejected');
  expect(refused.map((one) => (one.reason as { code: string }).code)).toEqual(['unavailable', 'unavailable']);
  expect(spool.count).toBe(10_001);
});

it('what NATS does not take is tried again on the same connection, which may last for days', async () => {
  await using temp = tempDir('events');
  const { spool } = await open(join(temp.path, 'events'));
  await using _ = spool;
  const publisher = new EventPublisher(spool, silentLogger, 5);
  let tries = 0;
  publisher.begin(
    sessionOf(() => {
      if (++tries < 3) throw new Error('no leader');
    }),
  );
  await publisher.publish(SOURCE, xidEvent(79, START_MS), false);
  await until(() => spool.count === 0, { timeoutMs: 10_000, what: 'it is published' });
  expect(tries).toBe(3);
  publisher.end();
});

it('a session that begins while the spool is read gets every event, from the first on', async () => {
  const events = [1, 2].map((seq) => ({ seq, event: { subject: `s${seq}`, id: '', body: '' } }));
  const reads: PromiseWithResolvers<void>[] = [];
  const spool = {
    async after(seq: number) {
      const read = Promise.withResolvers<void>();
      reads.push(read);
      await read.promise;
      return events.filter((one) => one.seq > seq);
    },
    sent: async () => {},
  } as unknown as EventSpool;
  const publisher = new EventPublisher(spool, silentLogger);
  const heard: string[] = [];
  publisher.begin(sessionOf(() => heard.push('over')));
  publisher.end();
  publisher.begin(sessionOf((subject) => heard.push(subject)));
  await until(
    () => {
      for (const read of reads) read.resolve();
      return heard.length >= 2;
    },
    { timeoutMs: 10_000, what: 'both are published' },
  );
  expect(heard).toEqual(['s1', 's2']);
  publisher.end();
});
