import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FLAG_KEYFRAME, FLAG_MODES, type Layout, layoutOf, MAX_RESIDUAL, MODE_RAW } from './frame-layout.ts';
import { MAX_VARINT_BYTES, writeVarint, zigzag } from './varint.ts';

/** Room before the bitmap for flags and time. */
const HEAD = 1 + MAX_VARINT_BYTES;

/**
 * Codes ticks of one dictionary. Each frame is a difference from the one before it, so a stream has its own
 * encoder; a keyframe starts anew and can be decoded alone.
 */
export class FrameEncoder {
  readonly dictionary: Dictionary;
  readonly #layout: Layout;
  /** Last scaled value and last first difference of each slot, as the decoder will know them. */
  readonly #scaled: Float64Array;
  readonly #delta: Float64Array;
  readonly #raw: Float64Array;
  readonly #mode: Uint8Array;
  #time = 0;
  #timeDelta = 0;
  #first = true;
  /** HEAD bytes, bitmap, payload: sized for the worst case, 8 bytes a slot, so the loop checks no bounds. */
  readonly #out: Uint8Array;
  readonly #view: DataView;
  readonly #head = new Uint8Array(HEAD);
  #modes: number[] = [];

  constructor(dictionary: Dictionary) {
    this.dictionary = dictionary;
    this.#layout = layoutOf(dictionary);
    const { slots } = this.#layout;
    this.#scaled = new Float64Array(slots);
    this.#delta = new Float64Array(slots);
    this.#raw = new Float64Array(slots);
    this.#mode = new Uint8Array(slots);
    this.#out = new Uint8Array(HEAD + Math.ceil(slots / 8) + MAX_VARINT_BYTES * slots);
    this.#view = new DataView(this.#out.buffer);
  }

  /**
   * The frame of one tick; the first is always a keyframe. The returned bytes are the encoder's own and valid
   * until its next call. Throws `invalid_input` for a present NaN and for a tick of another shape, and then has
   * not changed: a collector's mistake must not corrupt the stream.
   */
  encode(tick: Pick<Tick, 'timestampMs' | 'values' | 'states'>, keyframe = false): Uint8Array {
    const { slots } = this.#layout;
    const { values, states, timestampMs } = tick;
    if (
      values.length !== slots ||
      states.length !== slots ||
      !Number.isSafeInteger(timestampMs) ||
      timestampMs < 0
    ) {
      throw new FleetError(
        'invalid_input',
        `Cannot encode tick of group "${this.dictionary.group}": it does not fit its dictionary`,
      );
    }
    for (let slot = 0; slot < slots; slot++) {
      if (states[slot] === SlotState.Present && Number.isNaN(values[slot]!)) {
        throw new FleetError(
          'invalid_input',
          `Cannot encode "${this.dictionary.series[slot]!.name}": its value is not a number, and its state says present`,
        );
      }
    }
    const isKey = keyframe || this.#first;
    if (isKey) this.reset();
    this.#first = false;
    const end = this.#encodeSlots(values, states, isKey);
    return this.#finish(timestampMs, isKey, end);
  }

  /** Forgets everything: the next frame is a keyframe. */
  reset(): void {
    this.#scaled.fill(0);
    this.#delta.fill(0);
    this.#raw.fill(0);
    this.#mode.fill(SlotState.Present);
    this.#time = 0;
    this.#timeDelta = 0;
    this.#first = true;
  }

  /** Bitmap and payload, from HEAD on; mode changes into #modes. Returns where the payload ends. */
  #encodeSlots(values: Float64Array, states: Uint8Array, isKey: boolean): number {
    const { slots, power, multiply, second } = this.#layout;
    const out = this.#out;
    const scaledBefore = this.#scaled;
    const deltaBefore = this.#delta;
    const mode = this.#mode;
    const modes = this.#modes;
    modes.length = 0;
    const bitmap = HEAD;
    const bitmapEnd = bitmap + Math.ceil(slots / 8);
    out.fill(0, bitmap, bitmapEnd);
    let at = bitmapEnd;

    for (let slot = 0; slot < slots; slot++) {
      const state = states[slot]!;
      if (state !== SlotState.Present) {
        if (mode[slot] !== state) {
          mode[slot] = state;
          modes.push(slot, state);
        }
        // A decoder moves a counter on by its last difference only while it is present: forget it on both sides.
        deltaBefore[slot] = 0;
        continue;
      }
      const value = values[slot]!;
      const p = power[slot]!;
      const scaled = multiply[slot] === 1 ? Math.round(value * p) : Math.round(value / p);
      const exact = (multiply[slot] === 1 ? scaled / p : scaled * p) === value && !Object.is(value, -0);
      const safe = scaled <= Number.MAX_SAFE_INTEGER && scaled >= -Number.MAX_SAFE_INTEGER;
      const delta = scaled - scaledBefore[slot]!;
      const residual = second[slot] === 1 ? delta - deltaBefore[slot]! : delta;

      if (exact && safe && residual < MAX_RESIDUAL && residual > -MAX_RESIDUAL) {
        if (mode[slot] !== SlotState.Present) {
          mode[slot] = SlotState.Present;
          modes.push(slot, SlotState.Present);
        }
        scaledBefore[slot] = scaled;
        deltaBefore[slot] = isKey ? 0 : delta;
        if (residual !== 0) {
          out[bitmap + (slot >>> 3)]! |= 1 << (slot & 7);
          at = writeVarint(out, at, zigzag(residual));
        }
        continue;
      }

      const entered = mode[slot] !== MODE_RAW;
      if (entered) {
        mode[slot] = MODE_RAW;
        modes.push(slot, MODE_RAW);
      }
      // So that a counter that only did not fit a keyframe goes on as small differences in the next frame.
      if (safe) scaledBefore[slot] = scaled + 0;
      deltaBefore[slot] = 0;
      if (entered || !Object.is(value, this.#raw[slot]!)) {
        this.#raw[slot] = value;
        out[bitmap + (slot >>> 3)]! |= 1 << (slot & 7);
        this.#view.setFloat64(at, value, true);
        at += 8;
      }
    }
    return at;
  }

  #finish(timestampMs: number, isKey: boolean, end: number): Uint8Array {
    const timeDelta = timestampMs - this.#time;
    const time = isKey ? timestampMs : zigzag(timeDelta - this.#timeDelta);
    this.#timeDelta = isKey ? 0 : timeDelta;
    this.#time = timestampMs;
    const modes = this.#modes;
    const flags = (isKey ? FLAG_KEYFRAME : 0) | (modes.length > 0 ? FLAG_MODES : 0);

    const head =
      modes.length === 0
        ? this.#head
        : new Uint8Array(HEAD + MAX_VARINT_BYTES + modes.length * MAX_VARINT_BYTES);
    head[0] = flags;
    let at = writeVarint(head, 1, time);
    if (modes.length === 0) {
      // The usual case: head and body are joined in place.
      this.#out.set(head.subarray(0, at), HEAD - at);
      return this.#out.subarray(HEAD - at, end);
    }
    at = writeVarint(head, at, modes.length / 2);
    let next = 0;
    for (let i = 0; i < modes.length; i += 2) {
      at = writeVarint(head, at, modes[i]! - next);
      head[at++] = modes[i + 1]!;
      next = modes[i]! + 1;
    }
    const frame = new Uint8Array(at + end - HEAD);
    frame.set(head.subarray(0, at));
    frame.set(this.#out.subarray(HEAD, end), at);
    return frame;
  }
}
