import * as v from 'valibot';
import { bytes, duration } from '#shared/config/values.ts';

/** collectors.nvidia_smi */
export const nvidiaSmiSettings = v.strictObject({
  /** A path, or a name that is looked for where drivers install it. */
  command: v.optional(v.pipe(v.string('must be a path or a name'), v.minLength(1)), 'nvidia-smi'),
  /** Instead of collection_interval. */
  interval: v.optional(duration(500, 3_600_000)),
  /** How often the long report (-q -x) is read: MIG instances, limits, PCIe replays and ECC detail. */
  detail_interval: v.optional(duration(1000, 3_600_000), '1m'),
  /** false leaves the long report out. */
  details: v.optional(v.boolean('must be true or false'), true),
  /** A run is given up after this; the interval where that is shorter. */
  timeout: v.optional(duration(100, 60_000), '10s'),
  /** More output is refused. */
  max_output_bytes: v.optional(bytes(1024, 2 ** 28), '16MiB'),
});

export type NvidiaSmiSettings = v.InferOutput<typeof nvidiaSmiSettings>;
