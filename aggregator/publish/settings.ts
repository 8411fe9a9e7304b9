import * as v from 'valibot';
import { bytes, duration } from '#shared/config/values.ts';

const flag = v.boolean('must be true or false');
/** Names in which `*` stands for any characters. */
const patterns = v.pipe(
  v.array(
    v.pipe(v.string('must be text'), v.minLength(1, 'must not be empty'), v.maxLength(253)),
    'must be a list of names, * for any characters',
  ),
  v.minLength(1, 'must name at least one'),
  v.maxLength(100, 'must be at most 100'),
);

const ticks = v.strictObject({
  /** Every valid live tick as a compact frame on gpufleet.ticks. */
  enabled: v.optional(flag, false),
  /** Every valid live tick as JSON with labels and asset context on gpufleet.enriched: many times the bytes. */
  enriched: v.optional(flag, false),
  /** Only these nodes, groups, metrics. */
  nodes: v.optional(patterns),
  groups: v.optional(patterns),
  metrics: v.optional(patterns),
});

/** `publish` of the aggregator's file: what goes to JetStream beside alerts and events. */
export const publishSettings = v.strictObject({
  /** Rejected samples on gpufleet.rejected. */
  rejected: v.optional(flag, true),
  ticks: v.optional(ticks, {}),
  /**
   * Of each of the streams; what is older or over the size goes, the oldest first. Taken when a stream is made. At
   * least five minutes: nats-server wants it above the two minutes in which a stream knows a repeat.
   */
  max_age: v.optional(duration(300_000, 365 * 86_400_000), '24h'),
  max_bytes: v.optional(bytes(2 ** 20, 2 ** 50), '1GiB'),
});

export type PublishSettings = v.InferOutput<typeof publishSettings>;
