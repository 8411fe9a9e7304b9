import { SlotState } from '#shared/model/slot-state.ts';

/** Reads a value in the metric's base unit; NaN where the text is not of its kind. */
export type SmiReader = (text: string) => number;

/** Why nvidia-smi gives no value. */
export type SmiRefusal =
  | typeof SlotState.NotSupported
  | typeof SlotState.NoPermission
  | typeof SlotState.GpuLost
  | typeof SlotState.Timeout
  | typeof SlotState.Blank;

/**
 * NVML's error texts (nvmlErrorString), which nvidia-smi prints in the place of a value: in brackets in CSV,
 * without them in XML. Its own help says of N/A that the field is "not supported on the current device or device
 * configuration". "GPU requires reset" is said by all fields of a GPU that does not work before it is reset.
 */
const REFUSALS: ReadonlyMap<string, SmiRefusal> = new Map([
  ['n/a', SlotState.NotSupported],
  ['not supported', SlotState.NotSupported],
  ['function not found', SlotState.NotSupported],
  ['requested functionality has been deprecated', SlotState.NotSupported],
  ['insufficient permissions', SlotState.NoPermission],
  ['gpu is lost', SlotState.GpuLost],
  ['gpu requires reset', SlotState.GpuLost],
  ['timeout', SlotState.Timeout],
  ['unknown error', SlotState.Blank],
  ['err!', SlotState.Blank],
  ['', SlotState.Blank],
]);

/** `[N/A]`, `N/A`, `[GPU is lost]`, `ERR!`: the reason, or undefined where the text may be a value. */
export function refusalOf(text: string): SmiRefusal | undefined {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  return REFUSALS.get(bare.trim().toLowerCase());
}

/** A header's unit, `power.draw [W]`, or a value's, `433.78 W`. */
export interface SmiNumber extends SmiReader {
  readonly unit: string;
}

const NUMBER = /^(-?\d{1,19}(?:\.\d{1,9})?)(?: ?([^\d\s.].*))?$/;

/** `433.78 W`, `433.78`, `16x`, `2560 bank(s)`: the unit may be missing (nounits), but not be another. */
export function number(unit = '', { multiply = 1, divide = 1 } = {}): SmiNumber {
  const read = (text: string): number => {
    const [, digits, given] = NUMBER.exec(text) ?? [];
    if (digits === undefined || (given !== undefined && given !== unit)) return Number.NaN;
    return (Number(digits) * multiply) / divide;
  };
  return Object.assign(read, { unit });
}

/** `0x0000000000000044`. */
export const mask: SmiReader = (text) => (/^0x[0-9a-fA-F]{1,16}$/.test(text) ? Number(text) : Number.NaN);

/** `P0`. */
export const pState: SmiReader = (text) => (/^P\d{1,2}$/.test(text) ? Number(text.slice(1)) : Number.NaN);

/** Words and what they mean, in lower case. */
export function words(meanings: Readonly<Record<string, number>>): SmiReader {
  const byWord = new Map(Object.entries(meanings));
  return (text) => byWord.get(text.toLowerCase()) ?? Number.NaN;
}
