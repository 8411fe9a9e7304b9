/** A number for people: six digits. */
export function amount(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

/** Seconds for people, its two largest parts: `2 h 5 min`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return String(seconds);
  const sign = seconds < 0 ? '-' : '';
  const size = Math.abs(seconds);
  if (size < 1) return `${sign}${amount(size)} s`;
  let left = Math.round(size);
  const parts: string[] = [];
  for (const [length, unit] of [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ] as const) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) parts.push(`${count} ${unit}`);
    // Only parts that stand side by side: a day and three seconds is a day.
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return sign + parts.join(' ');
}

/** Bytes for people, in powers of 1,024. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${amount(Math.round(size * 10) / 10)} ${units[unit]}`;
}

/** A ratio in percent, to a tenth. */
export function percent(ratio: number): string {
  return `${amount(Math.round(ratio * 1000) / 10)} %`;
}
