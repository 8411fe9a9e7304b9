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
 * come and go between two pages shift nothing. Only the rows of the page are kept. Throws `invalid_input` for a size
 * or token that is none.
 */
export function pageOf<Row>(
  rows: Iterable<Row>,
  keyOf: (row: Row) => string,
  size: number,
  token: string,
): Page<Row> {
  const limit = pageSize(size);
  const after = decodeToken(token);
  const page: Row[] = [];
  let total = 0;
  let more = false;
  for (const row of rows) {
    total++;
    if (page.length === limit) more = true;
    else if (after === '' || page.length > 0 || keyOf(row) > after) page.push(row);
  }
  return { rows: page, nextPageToken: more ? encodeToken(keyOf(page.at(-1)!)) : '', total };
}

export function pageSize(size: number): number {
  if (size === 0) return DEFAULT_PAGE;
  if (!Number.isInteger(size) || size < 1 || size > MAX_PAGE) {
    throw new FleetError('invalid_input', `Cannot list: page_size must be 1 to ${MAX_PAGE}, and is ${size}`);
  }
  return size;
}

export function encodeToken(key: string): string {
  return Buffer.from(`1:${key}`).toString('base64url');
}

/** The key in a token, empty in none. Throws `invalid_input` for what no list returned. */
export function decodeToken(token: string): string {
  if (token === '') return '';
  const text = token.length > 4096 ? '' : Buffer.from(token, 'base64url').toString();
  if (!text.startsWith('1:') || encodeToken(text.slice(2)) !== token) {
    throw new FleetError('invalid_input', 'Cannot list: page_token is not one that a list returned');
  }
  return text.slice(2);
}
