/** One line of a captured log: its text and, where the capture has it, its time in microseconds. */
export interface LogLine {
  readonly usec: number;
  readonly text: string;
}

const RAW = /^\d+,\d+,(\d+),[^;]*;(.*)$/;
const DECODED = /^kern {2}:\w+ *: (\S+) (.*)$/;
const ISO = /^(\d{4}-\d\d-\d\dT\S+) (.*)$/;
const SECONDS = /^\[\s*(\d+)(?:\.(\d{1,6}))?\] (.*)$/;

/**
 * The lines of a capture in any of the forms that people keep logs in: records of /dev/kmsg, `dmesg --decode
 * --time-format iso`, `dmesg --time-format iso`, seconds in brackets, or the text alone. The product itself only
 * reads the first, and JSON of journald.
 */
export function logLines(capture: string): LogLine[] {
  return capture
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const raw = RAW.exec(line);
      if (raw) return { usec: Number(raw[1]), text: raw[2]! };
      const iso = DECODED.exec(line) ?? ISO.exec(line);
      if (iso) return { usec: usecOf(iso[1]!), text: iso[2]! };
      const [, seconds, micros = '0', text] = SECONDS.exec(line) ?? [];
      if (text !== undefined) return { usec: Number(seconds) * 1e6 + Number(micros.padEnd(6, '0')), text };
      return { usec: 0, text: line };
    });
}

/** `2025-01-21T02:21:33,498559+00:00` */
function usecOf(iso: string): number {
  const ms = Date.parse(iso.replace(/,(\d{3})(\d{3})/, '.$1'));
  return ms * 1000 + Number(/,\d{3}(\d{3})/.exec(iso)?.[1] ?? 0);
}
