import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

/** collectors.amd_sysfs */
export const amdSysfsSettings = v.strictObject({
  /** Instead of collection_interval. */
  interval: v.optional(duration(100, 300_000)),
  /** RAS counts, bad pages and xGMI errors, which the driver asks the firmware for; never below the interval. */
  ras_interval: v.optional(duration(1000, 300_000), '10s'),
});

export type AmdSysfsSettings = v.InferOutput<typeof amdSysfsSettings>;
