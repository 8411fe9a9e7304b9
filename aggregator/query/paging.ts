import { FleetError } from '#shared/errors/fleet-error.ts';

const DEFAULT_PAGE = 100;
export const MAX_PAGE = 1000;

export interface Page<Row> {
  readonly rows: Row[];
  readonly nextPageToken: string;
  readonly total: number;
}

/**
 * A page of rows that are sorted by key: those after the token's. The token is the last key, so that rows which
 * come and go between two pages shift nothing. Throws `invalid_input` for a size or token that is none.
 */
export function pageOf<Row>(
  rows: readonly Row[],
  keyOf: (row: Row) => string,
  size: number,
  token: string,
): Page<Row> {
  const limit = pageSize(size);
  const after = token === '' ? undefined : decodeToken(token);
  let start = 0;
  if (after !== undefined) {
    start = rows.findIndex((row) => keyOf(row) > after);
    if (start < 0) start = rows.length;
  }
  const page = rows.slice(start, start + limit);
  const last = page.at(-1);
  const more = last !== undefined && start + limit < rows.length;
  return { rows: page, nextPageToken: more ? encodeToken(keyOf(last)) : '', total: rows.length };
}

export function pageSize(size: number): number {
  if (size === 0) return DEFAULT_PAGE;
  if (!Number.isInteger(size) || size < 1 || size > MAX_PAGE) {
    throw new FleetError('invalid_input', `Cannot list: page_size must be 1 to ${MAX_PAGE}, and is ${size}`);
  }
  return size;
}

function encodeToken(key: string): string {
  return Buffer.from(`1:${key}`).toString('base64url');
}

function decodeToken(token: string): string {
  const text = token.length > 4096 ? '' : Buffer.from(token, 'base64url').toString();
  if (!text.startsWith('1:') || encodeToken(text.slice(2)) !== token) {
    throw new FleetError('invalid_input', 'Cannot list: page_token is not one that a list returned');
  }
  return text.slice(2);
}
