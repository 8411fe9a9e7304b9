import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { Outbox } from '../../../aggregator/publish/outbox.ts';
import { OutboxMetrics } from '../../../aggregator/publish/outbox-metrics.ts';
import type { Stream } from '../../../aggregator/publish/stream.ts';
import { until } from '../../support/wait.ts';
import { countOf } from './nats-publishing.ts';

function outboxOf(maxBytes = 2 ** 20) {
  const registry = createRegistry();
  const outbox = new Outbox({ name: 'ticks', maxBytes, metrics: new OutboxMetrics(registry) });
  const dropped = (reason: string) => countOf(registry, 'gpufleet_publish_dropped_total', { reason });
  const offer = (text: string, onDropped?: () => void) =>
    outbox.offer({ subject: 's', body: text, headers: {}, ...(onDropped && { onDropped }) });
  return { outbox, dropped, offer };
}

/** Takes what it is given in order, when told to. */
class Gate implements Stream {
  readonly seen: string[] = [];
  readonly open: PromiseWithResolvers<void>[] = [];

  publish(_subject: string, body: Uint8Array | string): Promise<void> {
    const settled = Promise.withResolvers<void>();
    this.seen.push(String(body));
    this.open.push(settled);
    return settled.promise;
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('an outbox', () => {
  // Lost without it: NATS is down for an hour, and the aggregator's memory with it.
  it('holds a bounded number of bytes: the oldest go, counted, whether NATS is away or only slow', async () => {
    for (const stream of [undefined, new Gate()]) {
      const { outbox, dropped, offer } = outboxOf(100_000);
      if (stream) outbox.begin(stream);
      const gone: number[] = [];
      for (let i = 0; i < 1_000; i++) offer('x'.repeat(1_000), () => gone.push(i));
      expect(outbox.waitingBytes).toBeLessThanOrEqual(100_000);
      expect(await dropped('queue_full')).toBe(gone.length);
      expect(gone).toEqual([...gone].sort((a, b) => a - b));
      expect(gone.length).toBeGreaterThan(900);
      expect(gone).not.toContain(999);
    }
  });

  it('sends what waited in order, a bounded number at once', async () => {
    const { outbox, offer } = outboxOf();
    for (let i = 0; i < 600; i++) offer(String(i));
    const gate = new Gate();
    outbox.begin(gate);
    expect(gate.open).toHaveLength(256);
    while (gate.open.length > 0) {
      for (const { resolve } of gate.open.splice(0)) resolve();
      await settle();
    }
    expect(gate.seen).toEqual(Array.from({ length: 600 }, (_, i) => String(i)));
    expect(outbox.waitingBytes).toBe(0);
  });

  it('what failed with its connection goes out with the next, before what came later', async () => {
    const { outbox, dropped, offer } = outboxOf();
    const first = new Gate();
    outbox.begin(first);
    offer('a');
    offer('b');
    outbox.end();
    for (const { reject } of first.open) reject(new Error('closed'));
    await settle();
    offer('c');
    const second = new Gate();
    outbox.begin(second);
    expect(second.seen).toEqual(['a', 'b', 'c']);
    expect(await dropped('refused')).toBe(0);
  });

  it('gives up a message that fails again and again, so that the rest is not stuck behind it', async () => {
    const { outbox, dropped, offer } = outboxOf();
    const seen: string[] = [];
    const stream: Stream = {
      async publish(_subject, body) {
        if (body === 'bad') throw new Error('no');
        seen.push(String(body));
      },
    };
    offer('bad');
    offer('good');
    // Each connection is a try.
    for (let i = 0; i < 5; i++) {
      outbox.begin(stream);
      await settle();
    }
    expect(seen).toEqual(['good']);
    expect(await dropped('refused')).toBe(1);
    expect(outbox.waitingBytes).toBe(0);
  });

  it('tries again by itself on a connection that stays', async () => {
    const { outbox, offer } = outboxOf();
    let tries = 0;
    outbox.begin({
      async publish() {
        if (++tries === 1) throw new Error('timeout');
      },
    });
    offer('a');
    await until(() => outbox.waitingBytes === 0, { timeoutMs: 10_000, what: 'it is stored' });
    expect(tries).toBe(2);
  });

  it('refuses what no server takes, before it costs anything', async () => {
    const { outbox, dropped, offer } = outboxOf();
    offer('x'.repeat(1_000_001));
    expect(await dropped('too_large')).toBe(1);
    expect(outbox.waitingBytes).toBe(0);
  });

  // Lost without it: an aggregator that stops waits for a NATS that does not answer.
  it('closed, it sends what it can in its time, counts the rest, and takes nothing more', async () => {
    const { outbox, dropped, offer } = outboxOf();
    const gate = new Gate();
    outbox.begin(gate);
    for (let i = 0; i < 300; i++) offer(String(i));
    await outbox.close(20);
    expect(await dropped('closed')).toBe(44);
    for (const { reject } of gate.open) reject(new Error('closed'));
    await settle();
    expect(await dropped('closed')).toBe(300);
    offer('late');
    expect(await dropped('closed')).toBe(301);
    expect(outbox.waitingBytes).toBe(0);
  });
});
