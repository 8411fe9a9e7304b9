export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  readonly align?: 'right';
  /** Wraps the padded text, in colour for example; adds no width. */
  readonly style?: (row: Row, text: string) => string;
}

/** Rows under their titles, each column as wide as its widest cell; the last one is not padded. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  const widths = columns.map(({ title }, at) =>
    Math.max(title.length, ...cells.map((line) => line[at]!.length)),
  );
  const pad = (text: string, at: number): string => {
    if (columns[at]!.align === 'right') return text.padStart(widths[at]!);
    return at === columns.length - 1 ? text : text.padEnd(widths[at]!);
  };
  const head = columns
    .map(({ title }, at) => pad(title, at))
    .join('  ')
    .trimEnd();
  const lines = cells.map((line, index) =>
    line
      .map((text, at) => columns[at]!.style?.(rows[index]!, pad(text, at)) ?? pad(text, at))
      .join('  ')
      .trimEnd(),
  );
  return `${[head, ...lines].join('\n')}\n`;
}
