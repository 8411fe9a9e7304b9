import { expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { EventPublisher, MAX_QUEUED_EVENTS } from '../../../aggregator/alerts/event-publisher.ts';
import { SOURCE, START_MS, xidEvent } from './block-of.ts';

it('events that wait for NATS are bounded: the oldest go, counted, and the aggregator lives', async () => {
  const registry = createRegistry();
  const publisher = new EventPublisher(registry);
  for (let i = 0; i < MAX_QUEUED_EVENTS + 5; i++)
    publisher.publish(SOURCE, xidEvent(79, START_MS + i), false);
  expect(publisher.idle).toBe(false);
  expect(await registry.metrics()).toContain('gpufleet_events_dropped_total 5');
});
