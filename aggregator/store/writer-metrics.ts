import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';

interface WriterState {
  readonly heldBytes: number;
  readonly heldSamples: { readonly live: number; readonly backlog: number };
  readonly available: boolean;
  readonly concurrency: number;
  readonly pathFault: number | undefined;
}

export function writerMetrics(registry: Registry, state: () => WriterState) {
  gauge(registry, {
    name: 'gpufleet_store_held_bytes',
    help: 'Bytes of samples that wait for the store, at most 64 MiB: compressed where their request is made, else as read.',
    collect() {
      this.set(state().heldBytes);
    },
  });
  gauge(registry, {
    name: 'gpufleet_store_held_samples',
    help: 'Samples that wait for the store, by lane.',
    labelNames: ['lane'],
    collect() {
      for (const [lane, held] of Object.entries(state().heldSamples)) this.set({ lane }, held);
    },
  });
  gauge(registry, {
    name: 'gpufleet_store_available',
    help: '1 while the store takes samples.',
    collect() {
      this.set(state().available ? 1 : 0);
    },
  });
  gauge(registry, {
    name: 'gpufleet_store_concurrency',
    help: 'Requests that may be in flight; adapts to how fast the store answers.',
    collect() {
      this.set(state().concurrency);
    },
  });
  gauge(registry, {
    name: 'gpufleet_store_path_fault',
    help: '1 while the way to the store is at fault, by HTTP status: nobody may write there, or nothing is there.',
    labelNames: ['status'],
    collect() {
      this.reset();
      const { pathFault } = state();
      if (pathFault !== undefined) this.set({ status: String(pathFault) }, 1);
    },
  });
  return {
    samples: counter(registry, {
      name: 'gpufleet_store_written_samples_total',
      help: 'Samples that the store answered 2xx for, repeats included.',
    }),
    bytes: counter(registry, {
      name: 'gpufleet_store_written_bytes_total',
      help: 'Compressed bytes of the requests that the store answered 2xx for.',
    }),
    requests: counter(registry, {
      name: 'gpufleet_store_requests_total',
      help: 'Requests that the store answered 2xx for.',
    }),
    retries: counter(registry, {
      name: 'gpufleet_store_retries_total',
      help: 'Requests tried again, by HTTP status; 0 is no answer.',
      labelNames: ['status'],
    }),
    refusedSeries: counter(registry, {
      name: 'gpufleet_store_refused_series_total',
      help: 'Times that the store refused a series for its content: each is a dead letter and a loss.',
    }),
    refusedSamples: counter(registry, {
      name: 'gpufleet_store_refused_samples_total',
      help: 'Samples of those series.',
    }),
    deferredBlocks: counter(registry, {
      name: 'gpufleet_store_deferred_blocks_total',
      help: 'Blocks and spans that found no room and stay with their agent, by lane.',
      labelNames: ['lane'],
    }),
  };
}
