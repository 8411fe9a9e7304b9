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
