import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';

export type DropReason =
  /** More waited than the queue holds: the oldest went. */
  | 'queue_full'
  /** It failed again and again. */
  | 'refused'
  /** Over what a NATS message may hold. */
  | 'too_large'
  | 'unencodable'
  | 'closed';

/** Of all outboxes; `stream` is one of four names. */
export class OutboxMetrics {
  readonly published: Counter<'stream'>;
  readonly publishedBytes: Counter<'stream'>;
  readonly dropped: Counter<'stream' | 'reason'>;
  readonly #waiting = new Map<string, () => number>();

  constructor(registry: Registry) {
    this.published = counter(registry, {
      name: 'gpufleet_publish_messages_total',
      help: 'Messages stored in JetStream, by stream: rejected, ticks, enriched, dictionaries.',
      labelNames: ['stream'],
    });
    this.publishedBytes = counter(registry, {
      name: 'gpufleet_publish_bytes_total',
      help: 'Bytes of the bodies of messages stored in JetStream, by stream.',
      labelNames: ['stream'],
    });
    this.dropped = counter(registry, {
      name: 'gpufleet_publish_dropped_total',
      help: 'Messages that were not stored in JetStream, by stream and reason: NATS is away or slow, or refuses them.',
      labelNames: ['stream', 'reason'],
    });
    const waiting = this.#waiting;
    gauge(registry, {
      name: 'gpufleet_publish_waiting_bytes',
      help: 'Bytes that wait in memory for JetStream, by stream.',
      labelNames: ['stream'],
      collect() {
        for (const [stream, bytes] of waiting) this.set({ stream }, bytes());
      },
    });
  }

  watch(stream: string, bytes: () => number): void {
    this.#waiting.set(stream, bytes);
  }
}
