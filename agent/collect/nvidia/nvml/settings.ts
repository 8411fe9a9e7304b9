import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

/** collectors.nvml */
export const nvmlSettings = v.strictObject({
  /** What the dynamic linker finds, or an absolute path. */
  library: v.optional(
    v.pipe(v.string('must be a name or path'), v.minLength(1), v.maxLength(4096)),
    'libnvidia-ml.so.1',
  ),
  /** Instead of collection_interval, for what moves: temperature, power, clocks, utilisation, memory, energy. */
  interval: v.optional(duration(100, 300_000)),
  /** For what seldom moves or costs the driver more: ECC, row remapping, limits, modes, links. */
  slow_interval: v.optional(duration(1000, 3_600_000), '30s'),
  /** A read that takes longer is given up and its process asked to end. Opening the driver may take six times as long. */
  timeout: v.optional(duration(100, 300_000), '10s'),
  /**
   * Whether /dev/nvidia* stay open between reads. Open handles block driver upgrades and MIG changes; opening for each
   * read costs the driver tens of milliseconds a GPU. Where nothing is said: open where the interval is below 10 s.
   */
  keep_open: v.optional(v.boolean('must be true or false')),
});

export type NvmlSettings = v.InferOutput<typeof nvmlSettings>;
