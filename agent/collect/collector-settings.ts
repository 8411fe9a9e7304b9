import * as v from 'valibot';
import { bytes, duration, httpUrl } from '#shared/config/values.ts';

const dcgmExporter = v.strictObject({
  /** Where the exporter answers. */
  url: httpUrl,
  /** Names and labels to write: ours, the exporter's own, or both. */
  naming: v.optional(
    v.picklist(['canonical', 'dcgm', 'both'], 'must be canonical, dcgm or both'),
    'canonical',
  ),
  /** Instead of collection_interval. */
  interval: v.optional(duration(100, 3_600_000)),
  /** The scrape is given up after this; the interval where that is shorter. */
  timeout: v.optional(duration(50, 60_000), '10s'),
  /** A larger answer is refused. */
  max_body_bytes: v.optional(bytes(1024, 2 ** 30), '16MiB'),
});

const fault = v.strictObject({
  /** Seconds after the start. */
  at: v.pipe(v.number('must be seconds'), v.minValue(0, 'must not be negative')),
  gpu: v.pipe(v.number('must be a GPU index'), v.integer(), v.minValue(0), v.maxValue(63)),
  kind: v.pipe(v.string('must name a fault'), v.minLength(1)),
  duration: v.optional(duration(1, 86_400_000 * 30)),
  code: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000))),
});

const simulated = v.strictObject({
  /** Simulated nodes in this process, each an agent of its own. */
  nodes: v.optional(
    v.pipe(v.number('must be a number of nodes'), v.integer(), v.minValue(1), v.maxValue(1000)),
    1,
  ),
  gpus: v.optional(
    v.pipe(v.number('must be a number of GPUs'), v.integer(), v.minValue(1), v.maxValue(16)),
    8,
  ),
  model: v.optional(v.picklist(['A100', 'H100', 'H200'], 'must be A100, H100 or H200'), 'H100'),
  /** The same seed makes the same fleet. */
  seed: v.optional(v.pipe(v.number('must be a number'), v.integer(), v.minValue(0)), 1),
  faults: v.optional(v.pipe(v.array(fault), v.maxLength(1000)), []),
  /** Random mild faults, each GPU and hour. */
  fault_rate: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 0),
});

/** Settings of the collectors, by name: what is named is collected. */
export const collectorsSchema = v.pipe(
  v.strictObject({ dcgm_exporter: v.optional(dcgmExporter), simulated: v.optional(simulated) }),
  v.check(
    (collectors) => Object.values(collectors).some((one) => one !== undefined),
    'must name at least one collector: dcgm_exporter, simulated',
  ),
);

export type CollectorSettings = v.InferOutput<typeof collectorsSchema>;
