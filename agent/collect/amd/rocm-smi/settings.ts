import * as v from 'valibot';
import { bytes, duration } from '#shared/config/values.ts';

/** collectors.rocm_smi */
export const rocmSmiSettings = v.strictObject({
  /** The tool, where it is not in /opt/rocm/bin, /usr/bin or /usr/local/bin. */
  command: v.optional(v.pipe(v.string(), v.nonEmpty('must not be empty'))),
  /** A read costs a second of CPU: the tool is a Python program. */
  interval: v.optional(duration(1000, 300_000), '30s'),
  /** More output than that is a failure. */
  max_output_bytes: v.optional(bytes(1024, 2 ** 28), '16MiB'),
});

export type RocmSmiSettings = v.InferOutput<typeof rocmSmiSettings>;
