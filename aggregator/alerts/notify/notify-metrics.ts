import { Histogram } from 'prom-client';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';

export interface NotifyMetricsOptions {
  readonly registry: Registry;
  readonly waiting: () => number;
  readonly leading: () => boolean;
}

/** Receivers are bounded by the file: at most 100 ways to people. */
export class NotifyMetrics {
  readonly #sent: Counter<'receiver' | 'kind' | 'outcome'>;
  readonly #latency: Histogram;

  constructor({ registry, waiting, leading }: NotifyMetricsOptions) {
    this.#sent = counter(registry, {
      name: 'gpufleet_notifications_total',
      help: 'Tries to notify, by receiver, its kind and what became of it: sent, retry, refused, or dead for given up.',
      labelNames: ['receiver', 'kind', 'outcome'],
    });
    this.#latency = new Histogram({
      name: 'gpufleet_notification_delay_seconds',
      help: 'From the newest transition in a notification of news to its being taken, waiting for its group included.',
      // From what a group waits to the longest interval that is usual.
      buckets: [1, 5, 10, 15, 30, 60, 120, 300, 600, 3600],
      registers: [registry],
    });
    gauge(registry, {
      name: 'gpufleet_notifications_waiting',
      help: 'Groups of alerts with something to tell, and notifications that wait for another try.',
      collect() {
        this.set(waiting());
      },
    });
    gauge(registry, {
      name: 'gpufleet_notifier_leader',
      help: '1 where this aggregator notifies: for the cluster, or while it is alone for itself.',
      collect() {
        this.set(leading() ? 1 : 0);
      },
    });
  }

  count(endpoint: { readonly receiver: string; readonly kind: string }, outcome: string): void {
    this.#sent.inc({ receiver: endpoint.receiver, kind: endpoint.kind, outcome });
  }

  delay(ms: number): void {
    this.#latency.observe(Math.max(0, ms) / 1000);
  }
}
