import { plain } from './format.ts';

export interface Column<Row> {
  readonly title: string;
  /** Any text: what would move the cursor of a terminal is taken out. */
  readonly cell: (row: Row) => string;
  readonly align?: 'right';
  /** Wraps the padded text, in colour for example; adds no width. */
  readonly style?: (row: Row, text: string) => string;
  /** Given up where the table is too wide, lowest first; never where not given. */
  readonly spare?: number;
}

const GAP = '  ';
/** A last column narrower than this goes below its row: it would be a word a line. */
const LEAST_WRAPPED = 24;
/** Of what goes below its row. */
const INDENT = 4;

/**
 * Rows under their titles, each column as wide as its widest cell; the last one is not padded. Where that is wider than
 * `width`, columns that can be spared go, and the text of the last one is broken into lines, beside its row or below it.
 */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width = Number.POSITIVE_INFINITY,
): string {
  const shown = fitting(
    columns.map((column) => measure(column, rows)),
    width,
  );
  const last = shown.at(-1)!;
  const before = widthOf(shown.slice(0, -1)) + GAP.length;
  const breaks = last.column.align !== 'right' && before + last.width > width;
  const below = breaks && before + Math.min(last.width, LEAST_WRAPPED) > width;
  const indent = below ? INDENT : before;
  const beside = below ? shown.slice(0, -1) : shown;
  const lines = rows.flatMap((row, index) => {
    const text = last.cells[index]!;
    const wrapped = breaks ? wrapText(text, width - indent) : [text];
    const first = below ? '' : wrapped.shift()!;
    const cells = beside.map((one) => {
      const cell = pad(one, one === last ? first : one.cells[index]!, last);
      return one.column.style?.(row, cell) ?? cell;
    });
    return [cells.join(GAP), ...wrapped.map((line) => ' '.repeat(indent) + line)];
  });
  const head = beside.map((one) => pad(one, one.column.title, last)).join(GAP);
  return `${[head, ...lines].map((line) => line.trimEnd()).join('\n')}\n`;
}

/** Lines of at most `width`, broken between words; a word that is longer stands alone. */
export function wrapText(text: string, width: number): string[] {
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

interface Measured<Row> {
  readonly column: Column<Row>;
  readonly cells: readonly string[];
  readonly width: number;
}

function measure<Row>(column: Column<Row>, rows: readonly Row[]): Measured<Row> {
  const cells = rows.map((row) => plain(column.cell(row)));
  const width = cells.reduce((most, { length }) => Math.max(most, length), column.title.length);
  return { column, cells, width };
}

function widthOf<Row>(columns: readonly Measured<Row>[]): number {
  return columns.reduce((sum, { width }) => sum + width, 0) + GAP.length * (columns.length - 1);
}

/** The columns that are left when those that can be spared have gone for the others' sake. */
function fitting<Row>(columns: readonly Measured<Row>[], width: number): readonly Measured<Row>[] {
  let shown = columns;
  while (leastWidthOf(shown) > width) {
    const spare = shown.reduce((least, { column }) => Math.min(least, column.spare ?? Infinity), Infinity);
    if (spare === Infinity) break;
    shown = shown.filter(({ column }) => column.spare !== spare);
  }
  return shown;
}

/** With the last column broken where it has words to break between. */
function leastWidthOf<Row>(columns: readonly Measured<Row>[]): number {
  const { column, cells, width } = columns.at(-1)!;
  const breaks =
    column.align !== 'right' && column.spare === undefined && cells.some((cell) => cell.includes(' '));
  return widthOf(columns) - (breaks ? Math.max(0, width - LEAST_WRAPPED) : 0);
}

function pad<Row>(one: Measured<Row>, text: string, last: Measured<Row>): string {
  if (one.column.align === 'right') return text.padStart(one.width);
  return one === last ? text : text.padEnd(one.width);
}
