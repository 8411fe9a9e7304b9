import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';

export type IngestMetrics = ReturnType<typeof ingestMetrics>;

/** Ingest's counters, with labels resolved once: the hot path increments numbers. */
export function ingestMetrics(registry: Registry, streams: () => number) {
  gauge(registry, {
    name: 'gpufleet_ingest_streams',
    help: 'Agents connected.',
    collect() {
      this.set(streams());
    },
  });
  // Counted in plain numbers and booked when somebody asks: a counter with labels costs more than a small tick.
  const counted = { live: new Map<string, number>(), backfill: new Map<string, number>() };
  let slots = 0;
  counter(registry, {
    name: 'gpufleet_ingest_records_total',
    help: 'Records received, repeats included, by kind and lane.',
    labelNames: ['kind', 'lane'],
    collect() {
      for (const [lane, counts] of Object.entries(counted)) {
        for (const [kind, count] of counts) this.inc({ kind, lane }, count);
        counts.clear();
      }
    },
  });
  counter(registry, {
    name: 'gpufleet_ingest_samples_total',
    help: 'Slots of the ticks admitted, repeats included.',
    collect() {
      this.inc(slots);
      slots = 0;
    },
  });
  const refused = counter(registry, {
    name: 'gpufleet_ingest_refused_records_total',
    help: 'Records refused for good, by reason; each is in the ledger of its agent.',
    labelNames: ['reason'],
  });
  const rateLimited = counter(registry, {
    name: 'gpufleet_ingest_rate_limited_samples_total',
    help: 'Live samples deferred because their node sent more than it may; they come again as backlog.',
  });
  const failures = counter(registry, {
    name: 'gpufleet_ingest_stream_failures_total',
    help: 'Streams ended by a fault of the agent, by code.',
    labelNames: ['code'],
  });
  const largest = gauge(registry, {
    name: 'gpufleet_ingest_node_series_max',
    help: 'Most series that one node has brought since the start.',
  });
  let most = 0;
  return {
    records(kind: string, live: boolean, count = 1): void {
      const counts = live ? counted.live : counted.backfill;
      counts.set(kind, (counts.get(kind) ?? 0) + count);
    },
    samples(count: number): void {
      slots += count;
    },
    rateLimited: (count: number): void => rateLimited.inc(count),
    refused: (reason: string): void => refused.inc({ reason }),
    failed: (code: string): void => failures.inc({ code }),
    series(count: number): void {
      if (count <= most) return;
      most = count;
      largest.set(count);
    },
  };
}
