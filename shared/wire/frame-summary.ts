import { FleetError } from '#shared/errors/fleet-error.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FLAG_KEYFRAME, FLAG_MODES, MODE_RAW } from './frame-layout.ts';
import { type Cursor, readVarint, unzigzag } from './varint.ts';

/**
 * Time and number of samples of each frame of one dictionary, without its values: both stand in front of the
 * payload, so this costs a few bytes where decoding costs every slot. Takes frames in the order in which they
 * were encoded, from a keyframe on. Throws `invalid_input`.
 */
export class FrameSummary {
  timestampMs = 0;
  /** Slots that hold a value, as `countPresent` counts the states of the decoded frame. */
  present = 0;
  readonly #slots: number;
  readonly #absent = new Set<number>();
  readonly #cursor: Cursor = { bytes: new Uint8Array(0), at: 0 };
  #timeDelta = 0;
  #ready = false;

  constructor(slots: number) {
    this.#slots = slots;
  }

  read(frame: Uint8Array): void {
    const cursor = this.#cursor;
    cursor.bytes = frame;
    cursor.at = 1;
    const flags = frame[0] ?? 0;
    const isKey = (flags & FLAG_KEYFRAME) !== 0;
    if (!isKey && !this.#ready) {
      throw new FleetError(
        'invalid_input',
        'Cannot read frame: it is a difference, and no keyframe came before it',
      );
    }
    const time = readVarint(cursor);
    if (isKey) this.#absent.clear();
    this.#timeDelta = isKey ? 0 : this.#timeDelta + unzigzag(time);
    this.timestampMs = isKey ? time : this.timestampMs + this.#timeDelta;
    if ((flags & FLAG_MODES) !== 0) this.#readModes(cursor);
    this.present = this.#slots - this.#absent.size;
    this.#ready = true;
  }

  #readModes(cursor: Cursor): void {
    const count = readVarint(cursor);
    let slot = -1;
    for (let i = 0; i < count; i++) {
      slot += 1 + readVarint(cursor);
      const mode = cursor.bytes[cursor.at++];
      if (mode === undefined || slot >= this.#slots) {
        throw new FleetError('invalid_input', `Cannot read frame: it names slot ${slot} of ${this.#slots}`);
      }
      if (mode === SlotState.Present || mode === MODE_RAW) this.#absent.delete(slot);
      else this.#absent.add(slot);
    }
  }
}
