/*
 * What a probe's two ends say to each other. Little-endian, both on one machine.
 *
 *   request (8 bytes)     u32 id | u8 group | 3 bytes 0
 *   answer  (12 + n)      u32 n  | u32 id | u8 kind | u8 state | u8 group | u8 0 | payload
 *
 *   kind Description      JSON: what the numbers of the readings after it mean; before the first reading, and
 *                         before the first one that it is different for
 *   kind Reading          count float64 values, then count bytes of SlotState; count = n / 9
 *   kind Failure          UTF-8: why nothing could be read; state says what its slots are
 */

export const REQUEST_BYTES = 8;
export const HEADER_BYTES = 12;
/** A value and its state. */
export const SLOT_BYTES = 9;
/** 10,000 series are 90 kB, and a description of them about 200 kB. */
export const MAX_PAYLOAD_BYTES = 4 * 2 ** 20;

export const FrameKind = { Description: 1, Reading: 2, Failure: 3 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** In the child: frames come on this descriptor; the library may print on standard output. */
export const ANSWER_FD = 3;
