import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

const count = (most: number) =>
  v.pipe(v.number('must be a number'), v.integer('must be whole'), v.minValue(0), v.maxValue(most));

/** collectors.host */
export const hostSettings = v.strictObject({
  /** CPU, memory, load, pressure and disk traffic; and the cgroups. */
  interval: v.optional(duration(100, 3_600_000), '15s'),
  /** Filesystems, disk and memory errors, clock: what changes slowly. */
  slow_interval: v.optional(duration(1000, 3_600_000), '1m'),
  /** CPU seconds of each CPU, where one sum of all is not enough: eight series for each. */
  per_cpu: v.optional(v.boolean(), false),
  /** Most cgroups (slices, pods, containers, jobs) with series of their own; 0 for none. */
  max_cgroups: v.optional(count(2000), 256),
});

export type HostSettings = v.InferOutput<typeof hostSettings>;
