/** One record of /dev/kmsg. */
export interface KmsgRecord {
  readonly facility: number;
  readonly sequence: number;
  /** Microseconds since boot. */
  readonly usec: number;
  readonly text: string;
}

const HEAD = /^(\d{1,5}),(\d{1,16}),(\d{1,16}),[^;]*;/;
const ESCAPED = /(?:\\x[0-9a-f]{2})+/g;

/**
 *     6,3998,261229012,-;nvidia-nvswitch3: open (major=510)
 *     4,1037,8127347,-,caller=T512;text with \x0a escapes
 *      SUBSYSTEM=pci
 *      DEVICE=+pci:0000:01:00.0
 *
 * priority and facility (facility * 8 + priority), sequence, microseconds, flags and more fields that may come; then
 * the text. Lines that begin with a space belong to the record before them and are not given here.
 * Documentation/ABI/testing/dev-kmsg of the kernel. Undefined for what is no record.
 */
export function parseKmsgRecord(line: string): KmsgRecord | undefined {
  const head = HEAD.exec(line);
  if (head === null) return undefined;
  const sequence = Number(head[2]);
  const usec = Number(head[3]);
  if (!Number.isSafeInteger(sequence) || !Number.isSafeInteger(usec)) return undefined;
  const text = line.slice(head[0].length);
  return {
    facility: Number(head[1]) >> 3,
    sequence,
    usec,
    text: text.includes('\\x') ? unescaped(text) : text,
  };
}

/** The kernel writes what is not printable ASCII byte by byte as \xNN. */
function unescaped(text: string): string {
  return text.replace(ESCAPED, (escapes) =>
    Buffer.from(escapes.replaceAll('\\x', ''), 'hex').toString('utf8'),
  );
}
