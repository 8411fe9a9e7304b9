import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import {
  FLAG_KEYFRAME,
  FLAG_MODES,
  KNOWN_FLAGS,
  type Layout,
  layoutOf,
  MAX_RESIDUAL,
  MODE_RAW,
  MODES,
} from './frame-layout.ts';
import { type Cursor, readVarint, unzigzag } from './varint.ts';

/**
 * Decodes the frames of one dictionary, in the order in which they were encoded. `values` and `states` hold the
 * newest tick: they are the decoder's state and its output at once, so an unchanged gauge costs nothing at all.
 * Both are valid until the next decode.
 *
 * After a throw the decoder's state is undefined: the stream must restart from a keyframe. Work and memory for
 * one frame are bounded by the dictionary, whatever the bytes say.
 */
export class FrameDecoder {
  readonly dictionary: Dictionary;
  readonly values: Float64Array;
  readonly states: Uint8Array;
  readonly #layout: Layout;
  readonly #scaled: Float64Array;
  readonly #delta: Float64Array;
  readonly #mode: Uint8Array;
  readonly #cursor: Cursor = { bytes: new Uint8Array(0), at: 0 };
  #time = 0;
  #timeDelta = 0;
  #ready = false;

  constructor(dictionary: Dictionary) {
    this.dictionary = dictionary;
    this.#layout = layoutOf(dictionary);
    const { slots } = this.#layout;
    this.values = new Float64Array(slots);
    this.states = new Uint8Array(slots);
    this.#scaled = new Float64Array(slots);
    this.#delta = new Float64Array(slots);
    this.#mode = new Uint8Array(slots);
  }

  /** Decodes one frame into `values` and `states`; returns its timestamp, Unix ms. Throws `invalid_input`. */
  decode(frame: Uint8Array): number {
    const cursor = this.#cursor;
    cursor.bytes = frame;
    cursor.at = 1;
    // From the first throw on: the next difference would be laid over a tick that this frame was to follow.
    const follows = this.#ready;
    this.#ready = false;
    const flags = frame[0];
    if (flags === undefined) throw this.#fault('it is empty');
    if ((flags & ~KNOWN_FLAGS) !== 0) throw this.#fault(`its flags ${flags} are not known`);
    const isKey = (flags & FLAG_KEYFRAME) !== 0;
    if (isKey) this.#reset();
    else if (!follows) throw this.#fault('it is a difference, and no keyframe came before it');

    const time = readVarint(cursor);
    const timeDelta = isKey ? 0 : this.#timeDelta + unzigzag(time);
    const timestampMs = isKey ? time : this.#time + timeDelta;
    if (!Number.isSafeInteger(timestampMs) || timestampMs < 0)
      throw this.#fault(`its time ${timestampMs} is out of range`);
    if ((flags & FLAG_MODES) !== 0) this.#readModes(cursor);
    this.#readSlots(cursor, isKey);
    if (cursor.at !== frame.length) throw this.#fault(`${frame.length - cursor.at} bytes are left over`);

    this.#time = timestampMs;
    this.#timeDelta = timeDelta;
    this.#ready = true;
    cursor.bytes = frame.subarray(0, 0);
    return timestampMs;
  }

  #reset(): void {
    this.values.fill(0);
    this.states.fill(SlotState.Present);
    this.#scaled.fill(0);
    this.#delta.fill(0);
    this.#mode.fill(SlotState.Present);
  }

  #readModes(cursor: Cursor): void {
    const count = readVarint(cursor);
    let slot = -1;
    for (let i = 0; i < count; i++) {
      slot += 1 + readVarint(cursor);
      if (slot >= this.#layout.slots) throw this.#fault(`it names slot ${slot} of ${this.#layout.slots}`);
      const mode = cursor.bytes[cursor.at++];
      if (mode === undefined || mode >= MODES) throw this.#fault(`slot ${slot} has the unknown mode ${mode}`);
      this.#mode[slot] = mode;
      this.#delta[slot] = 0;
      this.states[slot] = mode === MODE_RAW ? SlotState.Present : mode;
      if (mode === SlotState.Present) this.values[slot] = this.#unscale(slot);
    }
  }

  #readSlots(cursor: Cursor, isKey: boolean): void {
    const { slots, moving } = this.#layout;
    const { bytes } = cursor;
    const bitmap = cursor.at;
    cursor.at += Math.ceil(slots / 8);
    if (cursor.at > bytes.length) throw this.#fault('it ends inside its bitmap');
    const tail = slots & 7;
    if (tail !== 0 && bytes[cursor.at - 1]! >>> tail !== 0)
      throw this.#fault('its bitmap names slots past the end');

    for (let base = 0, i = bitmap; base < slots; base += 8, i++) {
      const bits = bytes[i]!;
      // Eight unchanged gauges, raw or absent slots: their values stand.
      if (bits === 0 && moving[base >>> 3] === 0) continue;
      const end = Math.min(base + 8, slots);
      for (let slot = base; slot < end; slot++)
        this.#readSlot(cursor, slot, ((bits >>> (slot & 7)) & 1) === 1, isKey);
    }
  }

  #readSlot(cursor: Cursor, slot: number, changed: boolean, isKey: boolean): void {
    const { second, power, multiply } = this.#layout;
    const mode = this.#mode[slot]!;
    if (mode === SlotState.Present) {
      const isSecond = second[slot] === 1;
      const before = isSecond ? this.#delta[slot]! : 0;
      if (!changed && before === 0) return;
      const residual = changed ? unzigzag(readVarint(cursor)) : 0;
      if (residual >= MAX_RESIDUAL || residual <= -MAX_RESIDUAL)
        throw this.#fault(`slot ${slot} has too large a difference`);
      const delta = before + residual;
      const scaled = this.#scaled[slot]! + delta;
      if (scaled > Number.MAX_SAFE_INTEGER || scaled < -Number.MAX_SAFE_INTEGER) {
        throw this.#fault(`slot ${slot} leaves the range of exact integers`);
      }
      this.#scaled[slot] = scaled;
      this.#delta[slot] = isKey ? 0 : delta;
      const p = power[slot]!;
      this.values[slot] = multiply[slot] === 1 ? scaled / p : scaled * p;
      return;
    }
    if (!changed) return;
    if (mode !== MODE_RAW) throw this.#fault(`slot ${slot} is absent and has a value`);
    const value = this.#readFloat(cursor, slot);
    const scaled = multiply[slot] === 1 ? Math.round(value * power[slot]!) : Math.round(value / power[slot]!);
    if (scaled <= Number.MAX_SAFE_INTEGER && scaled >= -Number.MAX_SAFE_INTEGER)
      this.#scaled[slot] = scaled + 0;
    this.values[slot] = value;
  }

  #unscale(slot: number): number {
    const { power, multiply } = this.#layout;
    return multiply[slot] === 1 ? this.#scaled[slot]! / power[slot]! : this.#scaled[slot]! * power[slot]!;
  }

  #readFloat(cursor: Cursor, slot: number): number {
    const { bytes, at } = cursor;
    if (at + 8 > bytes.length) throw this.#fault('it ends inside a value');
    const value = new DataView(bytes.buffer, bytes.byteOffset + at, 8).getFloat64(0, true);
    if (Number.isNaN(value)) throw this.#fault(`slot ${slot} is present and not a number`);
    cursor.at = at + 8;
    return value;
  }

  #fault(what: string): FleetError {
    return new FleetError(
      'invalid_input',
      `Cannot decode frame of group "${this.dictionary.group}": ${what}`,
    );
  }
}
