/** Narrower than this nobody reads a table: the last column keeps so many characters, whatever the terminal's width. */
const LEAST_LAST = 20;

/**
 * Rows under their titles, each column as wide as its widest cell; the last column takes what is left of `columns`
 * and is wrapped between words.
 */
export function renderTable(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number,
): string {
  const last = titles.length - 1;
  const widths = titles.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at]!.length)));
  const before = widths.slice(0, last).reduce((sum, width) => sum + width + 2, 0);
  const width = Math.max(LEAST_LAST, columns - before);
  const lines = [titles, ...rows].flatMap((row) => {
    const wrapped = wrap(row[last]!, width);
    return wrapped.map((text, index) => {
      const cells = row.slice(0, last).map((cell, at) => (index === 0 ? cell : '').padEnd(widths[at]!));
      return [...cells, text].join('  ').trimEnd();
    });
  });
  return `${lines.join('\n')}\n`;
}

/** Lines of at most `width`; a word that is longer stands alone. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
