import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';

export function writerMetrics(
  registry: Registry,
  state: () => { readonly heldBytes: number; readonly available: boolean },
) {
  gauge(registry, {
    name: 'gpufleet_store_held_bytes',
    help: 'Raw bytes of samples that wait for the store.',
    collect() {
      this.set(state().heldBytes);
    },
  });
  gauge(registry, {
    name: 'gpufleet_store_available',
    help: '1 while the store takes samples.',
    collect() {
      this.set(state().available ? 1 : 0);
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
    retries: counter(registry, {
      name: 'gpufleet_store_retries_total',
      help: 'Requests tried again, by HTTP status; 0 is no answer.',
      labelNames: ['status'],
    }),
    poison: counter(registry, {
      name: 'gpufleet_store_refused_series_total',
      help: 'Series that the store refused for their content and that were left out.',
    }),
    deferredBlocks: counter(registry, {
      name: 'gpufleet_store_deferred_blocks_total',
      help: 'Blocks that found no room and stay with their agent.',
    }),
  };
}
