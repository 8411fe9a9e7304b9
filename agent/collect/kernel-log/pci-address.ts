/** A PCI address inside a line: `0000:91:00`, `00000000:91:00.0`, `91:00.0`. One way to write it: see normalPci. */
export const PCI_PATTERN = '(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\\.[0-7])?';
