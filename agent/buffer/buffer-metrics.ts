import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';

export interface BufferState {
  readonly bytes: number;
  readonly writable: boolean;
  readonly unbuffered: number;
}

export function bufferMetrics(registry: Registry, buffer: BufferState) {
  gauge(registry, {
    name: 'gpufleet_agent_buffer_bytes',
    help: 'Bytes of the buffer on disk, as last measured, and what was appended since.',
    collect() {
      this.set(buffer.bytes);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_buffer_writable',
    help: '1 while the buffer can be written, 0 while samples go on from memory alone.',
    collect() {
      this.set(buffer.writable ? 1 : 0);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_buffer_unbuffered_records',
    help: 'Records that could not be written and are not in the store yet: a restart loses them.',
    collect() {
      this.set(buffer.unbuffered);
    },
  });
  return {
    lost: counter(registry, {
      name: 'gpufleet_agent_lost_samples_total',
      help: 'Samples that will never reach the store, by reason; each is also a loss record.',
      labelNames: ['reason'],
    }),
    writeFailures: counter(registry, {
      name: 'gpufleet_agent_buffer_write_failures_total',
      help: 'Batches that could not be written to the buffer.',
    }),
    compacted: counter(registry, {
      name: 'gpufleet_agent_buffer_compacted_bytes_total',
      help: 'Bytes that compaction of the backlog saved.',
    }),
  };
}
