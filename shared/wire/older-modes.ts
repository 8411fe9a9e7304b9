import { SlotState } from '#shared/model/slot-state.ts';
import { FLAG_MODES, MODE_RAW } from './frame-layout.ts';
import { type Cursor, readVarint } from './varint.ts';

/** The first version of the protocol whose frames say why a slot has no value: the modes above MODE_RAW. */
export const REASONS_SINCE_PROTOCOL = 2;

/**
 * The frame for a reader of protocol 1, which refuses modes that it does not know: every newer reason is Absent. A
 * mode is one byte, so nothing else of the frame changes. Returns the frame itself where it has no such mode.
 */
export function withOlderModes(frame: Uint8Array): Uint8Array {
  if ((frame[0]! & FLAG_MODES) === 0) return frame;
  const cursor: Cursor = { bytes: frame, at: 1 };
  readVarint(cursor);
  const count = readVarint(cursor);
  let rewritten: Uint8Array | undefined;
  for (let i = 0; i < count; i++) {
    readVarint(cursor);
    if (frame[cursor.at]! > MODE_RAW) {
      rewritten ??= Uint8Array.from(frame);
      rewritten[cursor.at] = SlotState.Absent;
    }
    cursor.at++;
  }
  return rewritten ?? frame;
}
