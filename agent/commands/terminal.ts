import type { Clock } from '#shared/model/clock.ts';

/** Where a command writes, and what it may know of its surroundings. */
export interface Terminal {
  /** Characters a line; at least MIN_COLUMNS. */
  readonly columns: number;
  readonly clock: Clock;
  write(text: string): void;
}

/** What is not known is a dash, never a zero. */
export const UNKNOWN = '-';

/** Text of others on one line: a driver's or server's words must not move the cursor of a terminal. */
export function plain(text: string): string {
  return text.replaceAll(/\p{C}+/gu, ' ').trim();
}

/** `12s`, `3m`, `5h`, `2d`. */
export function showAge(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  if (seconds < 120) return `${Math.round(seconds)}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** `512 MiB`, `1.9 GiB`. */
export function showBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export function showCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** `10s`, `100ms`. */
export function showInterval(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}
