import type { IngestSink, Outcome } from '../../aggregator/ingest/ingest-sink.ts';

/** A stage below ingest that accepts everything; a test replaces what it looks at. */
export function quietSink(overrides: Partial<IngestSink> = {}): IngestSink {
  const accepted: Outcome = { state: 'accepted', epoch: 1n };
  return {
    connected() {},
    disconnected() {},
    status() {},
    replays: () => [],
    block: async () => accepted,
    span: async () => accepted,
    event: async () => accepted,
    loss: async () => accepted,
    store: { epoch: 1n, epochAgeMs: 0, backfillOpen: true },
    ...overrides,
  };
}
