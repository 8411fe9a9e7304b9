/** One line of `doctor`. */
export interface Finding {
  /** `driver`, `disk`, `source nvml`. */
  readonly what: string;
  /** none: not there, and nobody said that it should be. */
  readonly state: 'ok' | 'none' | 'warn' | 'fail';
  readonly finding: string;
  /** What to do; undefined where there is nothing. */
  readonly cure?: string;
}

export const ok = (what: string, finding: string): Finding => ({ what, state: 'ok', finding });
export const none = (what: string, finding: string, cure?: string): Finding => ({
  what,
  state: 'none',
  finding,
  ...(cure !== undefined && { cure }),
});
export const warn = (what: string, finding: string, cure: string): Finding => ({
  what,
  state: 'warn',
  finding,
  cure,
});
export const fail = (what: string, finding: string, cure: string): Finding => ({
  what,
  state: 'fail',
  finding,
  cure,
});
