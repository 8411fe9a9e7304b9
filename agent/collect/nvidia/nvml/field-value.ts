import type { SlotState } from '#shared/model/slot-state.ts';
import { u64 } from './fields.ts';
import { stateOf } from './return-code.ts';

const readU64 = u64();
/** Offsets in nvmlFieldValue_t. */
const TYPE = 24;
const RETURN = 28;
const VALUE = 32;

export function fieldState(view: DataView, at: number): SlotState {
  return stateOf(view.getUint32(at + RETURN, true));
}

/** By nvmlValueType_t: double, u32, unsigned long, u64, i64, i32, u16. NaN for a type that is newer than this. */
export function fieldValue(view: DataView, at: number): number {
  switch (view.getUint32(at + TYPE, true)) {
    case 0:
      return view.getFloat64(at + VALUE, true);
    case 1:
      return view.getUint32(at + VALUE, true);
    case 2:
    case 3:
      return readU64(view, at + VALUE);
    case 4:
      return Number(view.getBigInt64(at + VALUE, true));
    case 5:
      return view.getInt32(at + VALUE, true);
    case 6:
      return view.getUint16(at + VALUE, true);
    default:
      return Number.NaN;
  }
}

/**
 * NVLink's bit error ratios: mantissa in bits 8 to 11, exponent in bits 0 to 7, mantissa * 10^-exponent. Source:
 * NVML_NVLINK_BER_* in nvml.h.
 */
export function berRatio(coded: number): number {
  return Number(`${(coded >>> 8) & 0xf}e-${coded & 0xff}`);
}
