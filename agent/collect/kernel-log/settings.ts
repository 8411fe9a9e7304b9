import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

/** collectors.kernel_log */
export const kernelLogSettings = v.strictObject({
  /** Where kernel lines come from: `auto` is /dev/kmsg where it can be read, else journald. */
  from: v.optional(v.picklist(['auto', 'kmsg', 'journal'], 'must be auto, kmsg or journal'), 'auto'),
  /** How soon a line is seen, at most. A look that finds nothing costs some 10 microseconds. */
  interval: v.optional(duration(50, 60_000), '250ms'),
  /** Path of a YAML file with verdicts of this site: see verdicts.ts. */
  verdicts: v.optional(v.pipe(v.string('must be a path'), v.minLength(1, 'must not be empty'))),
  /**
   * Takes lines that a program wrote to /dev/kmsg for the kernel's own, for drills. Off: only what the kernel
   * itself said is believed.
   */
  accept_injected: v.optional(v.boolean('must be true or false'), false),
});

export type KernelLogSettings = v.InferOutput<typeof kernelLogSettings>;
