/** What tells one GPU of a node from the others, in every AMD source alike. */
export interface GpuIdentity {
  /** Index, in order of PCI addresses. */
  readonly gpu: string;
  /** See uuidOf; empty where the board has none, as most consumer boards. */
  readonly uuid: string;
  readonly model: string;
  /** A partition of the GPU (not SPX): its number and mode, where MIG's instances have theirs. */
  readonly mig_id?: string | undefined;
  readonly mig_profile?: string | undefined;
}

const NOTHING = new Set(['', 'n/a', 'none', 'unknown', '0', 'not supported']);
/** One label of a dictionary holds more; a longer name is no name. */
const MAX_TEXT = 256;

/** A text of a source, or undefined where it says that there is none. */
export function fact(text: unknown): string | undefined {
  if (typeof text !== 'string' && typeof text !== 'number') return undefined;
  const trimmed = String(text).trim();
  return NOTHING.has(trimmed.toLowerCase()) || trimmed.length > MAX_TEXT ? undefined : trimmed;
}

/**
 * The ASIC's serial number as the sixteen hex digits of sysfs' `unique_id`. The tools print the same number as
 * `0x2f048617326b1ea` (rocm-smi's Unique ID, without leading zeros) and `0x7E8F7E20764E2714` (amd-smi's
 * asic_serial); any other text is taken as it is, in lower case.
 */
export function uuidOf(text: unknown): string {
  const said = fact(text)?.toLowerCase() ?? '';
  const hex = /^(?:0x)?([0-9a-f]{1,16})$/.exec(said)?.[1];
  if (hex === undefined) return said;
  return /^0+$/.test(hex) || /^f{16}$/.test(hex) ? '' : hex.padStart(16, '0');
}
