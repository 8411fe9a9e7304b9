import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

/** collectors.network */
export const networkSettings = v.strictObject({
  interval: v.optional(duration(100, 3_600_000), '15s'),
  /** Interfaces without a device behind them too: bridges, bonds, veth, VLANs. */
  virtual_interfaces: v.optional(v.boolean(), false),
  /** Which of the counters that a card's driver adds (hw_counters) are read: those of errors, all, or none. */
  hw_counters: v.optional(v.picklist(['errors', 'all', 'none'], 'must be errors, all or none'), 'errors'),
  /** A link that went down this often within flap_window is an event link_flap. */
  flap_count: v.optional(
    v.pipe(v.number('must be a number'), v.integer('must be whole'), v.minValue(2), v.maxValue(100)),
    3,
  ),
  flap_window: v.optional(duration(60_000, 7 * 86_400_000), '12h'),
});

export type NetworkSettings = v.InferOutput<typeof networkSettings>;
