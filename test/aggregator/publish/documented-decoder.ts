import type { ToldDictionary } from './nats-publishing.ts';

const PRESENT = 0;
const RAW = 5;

/**
 * A consumer's decoder, written from the documentation of gpufleet.ticks alone, so that it shares no mistake with
 * the product's. Values by series, in slot order; undefined where there is none.
 */
export function decodeDocumented(
  { series }: ToldDictionary,
  frame: Uint8Array,
): { timeMs: number; values: (number | undefined)[]; modes: number[] } {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = frame[at++]!;
      value += (byte % 128) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  const flags = frame[at++]!;
  const timeMs = varint();
  const modes = new Array<number>(series.length).fill(PRESENT);
  if (flags & 2) {
    let slot = -1;
    for (let left = varint(); left > 0; left--) {
      slot += 1 + varint();
      modes[slot] = frame[at++]!;
    }
  }
  const bitmap = frame.subarray(at, at + Math.ceil(series.length / 8));
  at += bitmap.length;
  const values = series.map(({ decimals }, slot) => {
    const has = (bitmap[slot >> 3]! >> (slot & 7)) & 1;
    if (modes[slot] === RAW) {
      const value = new DataView(frame.buffer, frame.byteOffset + at, 8).getFloat64(0, true);
      at += 8;
      return value;
    }
    if (modes[slot] !== PRESENT) return undefined;
    const zigzag = has ? varint() : 0;
    const scaled = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
    return decimals >= 0 ? scaled / 10 ** decimals : scaled * 10 ** -decimals;
  });
  if (at !== frame.length) throw new Error(`${frame.length - at} bytes are left`);
  return { timeMs, values, modes };
}
