/**
 * What a tick says about one slot. Absent is not unchanged is not stale: an unchanged value is Present.
 * The numbers are part of the wire and disk format; never renumber them.
 */
export const SlotState = {
  /** values[slot] holds the value. Never NaN; may be infinite. */
  Present: 0,
  /** The source did not report the series in this tick, or reported a blank ("not supported"). */
  Absent: 1,
  /** Reported, but not a number or outside the catalogue's physical range: counted, kept out of health. */
  Quarantined: 2,
  /** The series ended (GPU gone, MIG change): written to the store as a Prometheus stale marker. */
  Stale: 3,
  /** The source was not read in time. */
  Timeout: 4,
} as const;

export type SlotState = (typeof SlotState)[keyof typeof SlotState];

/** One more than the highest state: the range that a decoder accepts. */
export const SLOT_STATES = 5;
