import { type DescMessage, type MessageShape, toJson } from '@bufbuild/protobuf';
import type { Clients } from './connection.ts';
import type { Paint } from './format.ts';
import { type Column, renderTable } from './table.ts';

/** Where a command's output goes, and how it should look. */
export interface Output {
  readonly json: boolean;
  readonly paint: Paint;
  readonly isTerminal: boolean;
  readonly columns: number;
  readonly rows: number;
  write(text: string): void;
}

export interface CommandContext extends Clients {
  readonly output: Output;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  readonly now: () => number;
}

/** Field names as in proto/, fields with their default value included: a script can rely on them. */
export function jsonOf<Schema extends DescMessage>(schema: Schema, message: MessageShape<Schema>): unknown {
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true });
}

export function writeJson(output: Output, value: unknown): void {
  output.write(`${JSON.stringify(value)}\n`);
}

/** Of the terminal; without end where another program reads. */
export function widthOf({ isTerminal, columns }: Output): number {
  return isTerminal ? columns : Number.POSITIVE_INFINITY;
}

/** A table that fits the terminal; all of it, a line a row, where another program reads. */
export function writeTable<Row>(output: Output, columns: readonly Column<Row>[], rows: readonly Row[]): void {
  output.write(renderTable(columns, rows, widthOf(output)));
}

const PAGE = 1000;

/** Every row of a list, page by page, or the first `limit`. */
export async function allPages<Row>(
  list: (page: {
    pageSize: number;
    pageToken: string;
  }) => Promise<{ rows: readonly Row[]; nextPageToken: string }>,
  limit = Number.POSITIVE_INFINITY,
): Promise<Row[]> {
  const all: Row[] = [];
  let pageToken = '';
  do {
    const page = await list({ pageSize: Math.min(PAGE, limit - all.length), pageToken });
    all.push(...page.rows);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && all.length < limit);
  return all;
}
