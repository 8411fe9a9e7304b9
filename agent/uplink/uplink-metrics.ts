import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';

interface UplinkState {
  readonly connected: boolean;
  readonly pending: number;
  readonly inFlight: { readonly live: number; readonly backfill: number };
}

/** The uplink's counters; gauges are read when scraped. */
export function uplinkMetrics(registry: Registry, state: () => UplinkState) {
  gauge(registry, {
    name: 'gpufleet_agent_uplink_connected',
    help: '1 while the stream to an aggregator stands.',
    collect() {
      this.set(state().connected ? 1 : 0);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_backlog_records',
    help: 'Records on disk that are neither in flight nor in the store.',
    collect() {
      this.set(state().pending);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_uplink_in_flight_bytes',
    help: 'Bytes sent and not yet answered, by lane.',
    labelNames: ['lane'],
    collect() {
      const { live, backfill } = state().inFlight;
      this.set({ lane: 'live' }, live);
      this.set({ lane: 'backfill' }, backfill);
    },
  });
  return {
    sentRecords: counter(registry, {
      name: 'gpufleet_agent_sent_records_total',
      help: 'Records sent, repeats included, by lane.',
      labelNames: ['lane'],
    }),
    sentBytes: counter(registry, {
      name: 'gpufleet_agent_sent_record_bytes_total',
      help: 'Bytes of the records sent, as they lie on disk, by lane.',
      labelNames: ['lane'],
    }),
    acceptedRecords: counter(registry, {
      name: 'gpufleet_agent_accepted_records_total',
      help: 'Records that the aggregator answered with "accepted", repeats included.',
    }),
    liveSkipped: counter(registry, {
      name: 'gpufleet_agent_live_skipped_total',
      help: 'Records that found the live window full and go by the backfill lane.',
    }),
    again: counter(registry, {
      name: 'gpufleet_agent_sent_again_records_total',
      help: 'Records that were accepted and are sent again because the store restarted before they were durable.',
    }),
    replayed: counter(registry, {
      name: 'gpufleet_agent_replayed_records_total',
      help: 'Records that were accepted or durable and are sent again because an aggregator asked for it.',
    }),
    failures: counter(registry, {
      name: 'gpufleet_agent_uplink_failures_total',
      help: 'Streams that could not be opened or broke.',
    }),
  };
}
