/**
 * What a tick says about one slot. Absent is not unchanged is not stale: an unchanged value is Present.
 * The numbers are part of the wire and disk format; never renumber them. 5 is taken: see MODE_RAW in
 * shared/wire/frame-layout.ts.
 */
export const SlotState = {
  /** values[slot] holds the value. Never NaN; may be infinite. */
  Present: 0,
  /** The source answered and did not report the series in this tick; also where it could not be read and nothing more is known. */
  Absent: 1,
  /** Reported, but not a number or outside the catalogue's physical range: counted, kept out of health. */
  Quarantined: 2,
  /** The series ended (GPU gone, MIG change): written to the store as a Prometheus stale marker. */
  Stale: 3,
  /** The source was not read in time. */
  Timeout: 4,
  /** The device or driver does not have the field: it will not come until one of them changes. */
  NotSupported: 6,
  /** The field is there and this process may not read it. */
  NoPermission: 7,
  /** The GPU does not answer any more. */
  GpuLost: 8,
  /** Reported without a value: DCGM's blanks, nvidia-smi's N/A where the field exists. */
  Blank: 9,
} as const;

export type SlotState = (typeof SlotState)[keyof typeof SlotState];

/** The states that a slot can be in without a value, by the name that people read. */
export const SLOT_STATE_NAMES: ReadonlyMap<SlotState, string> = new Map([
  [SlotState.Present, 'present'],
  [SlotState.Absent, 'absent'],
  [SlotState.Quarantined, 'quarantined'],
  [SlotState.Stale, 'stale'],
  [SlotState.Timeout, 'timeout'],
  [SlotState.NotSupported, 'not_supported'],
  [SlotState.NoPermission, 'no_permission'],
  [SlotState.GpuLost, 'gpu_lost'],
  [SlotState.Blank, 'blank'],
]);

/**
 * Slots that hold a value. Agents count once a second, in code that is not compiled for it: there an iterator over an
 * array of numbers makes an object for each.
 */
export function countPresent(states: Uint8Array): number {
  let count = 0;
  for (let slot = 0; slot < states.length; slot++) if (states[slot] === SlotState.Present) count++;
  return count;
}

/** One more than the highest number: the range that a decoder accepts. */
export const SLOT_STATES = 10;
