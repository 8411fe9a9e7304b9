import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** `validation` of the aggregator's file. */
export const validationSettings = v.strictObject({
  /** Off: everything that ingest admits is evaluated. */
  enabled: v.optional(v.boolean('must be true or false'), true),
  /**
   * A tick further ahead of this process's clock is not evaluated. Own judgement: NTP holds clocks within a second,
   * a virtual machine that was resumed is minutes off until it is corrected.
   */
  future_tolerance: v.optional(duration(1_000, 7 * DAY_MS), '10m'),
  /** A live tick that is older is not evaluated: no agent keeps more than its ring, 24 h as shipped. */
  past_tolerance: v.optional(duration(60_000, 365 * DAY_MS), '24h'),
});

export type ValidationSettings = v.InferOutput<typeof validationSettings>;
