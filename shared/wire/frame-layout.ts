import type { Dictionary } from '#shared/model/dictionary.ts';
import { SLOT_STATES } from '#shared/model/slot-state.ts';

/*
 * A frame is one tick of one dictionary:
 *
 *   flags      1 byte   bit 0: keyframe (every state below starts at zero)
 *                       bit 1: modes follow
 *   time       varint   zigzag of the second difference of the timestamp, ms; in a keyframe the timestamp itself
 *   modes      varint count, then for each: varint gap to the slot, 1 byte new mode     (only with bit 1)
 *   changed    ceil(slots / 8) bytes, least significant bit first: the slot has an entry in the payload
 *   payload    for each changed slot in order: scaled slots a zigzag varint residual, raw slots a float64 LE
 *
 * A slot's mode is sticky: its SlotState, or Raw for a present value that round(value * 10^decimals) does not
 * hold. So a field that is absent for a day costs two bytes once, not two bytes a tick; and "unchanged" is a
 * zero bit of a present slot, which "absent" can never be mistaken for.
 *
 * Gauges send the first difference of the scaled integers. Counters send the second: at a steady rate that is
 * zero, and a zero costs one bit. A keyframe holds the value and no difference. What is given up: after a lost frame nothing can be decoded until the next
 * keyframe; a stream is ordered and a record on disk is always a keyframe, so that does not happen.
 */
export const FLAG_KEYFRAME = 1;
export const FLAG_MODES = 2;
export const KNOWN_FLAGS = FLAG_KEYFRAME | FLAG_MODES;

/** Present, sent as a float64: a mode among the slot states, none of which has this number. */
export const MODE_RAW = 5;
export const MODES = SLOT_STATES;

/** Residuals from here on are sent raw: their zigzag form would not fit 53 bits. */
export const MAX_RESIDUAL = 2 ** 52;

/** What coding needs to know about the slots, laid out for the loop. */
export interface Layout {
  readonly slots: number;
  /** 10^|decimals| for each slot: exact for every allowed number of decimals. */
  readonly power: Float64Array;
  /** 1 where a scaled value is value * power, 0 where it is value / power (negative decimals). */
  readonly multiply: Uint8Array;
  /** 1 for counters: second differences. */
  readonly second: Uint8Array;
  /** For each byte of the bitmap: 1 if one of its slots is a counter, which moves even when its bit is zero. */
  readonly moving: Uint8Array;
}

const layouts = new WeakMap<Dictionary, Layout>();

export function layoutOf(dictionary: Dictionary): Layout {
  let layout = layouts.get(dictionary);
  if (!layout) {
    const { series } = dictionary;
    const moving = new Uint8Array(Math.ceil(series.length / 8));
    for (let slot = 0; slot < series.length; slot++) {
      if (series[slot]!.kind === 'counter') moving[slot >>> 3] = 1;
    }
    layout = {
      moving,
      slots: series.length,
      power: Float64Array.from(series, (one) => 10 ** Math.abs(one.decimals)),
      multiply: Uint8Array.from(series, (one) => (one.decimals >= 0 ? 1 : 0)),
      second: Uint8Array.from(series, (one) => (one.kind === 'counter' ? 1 : 0)),
    };
    layouts.set(dictionary, layout);
  }
  return layout;
}
