import { type DescMessage, type MessageShape, toJson } from '@bufbuild/protobuf';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Access } from './callers.ts';
import type { FleetView } from './fleet-view.ts';
import { parseTime } from './loss-requests.ts';
import { MAX_PAGE } from './paging.ts';

export interface RestRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Parsed JSON, or undefined where there is no body. */
  readonly body: unknown;
  /** Who asks: the name of the token's holder, or its role; empty where nobody said. */
  readonly by: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: RegExp;
  readonly access: Access;
  /** Query parameters that it knows: another one is a mistake, and is said. */
  readonly parameters: readonly string[];
  readonly answer: (view: FleetView, parts: readonly string[], request: RestRequest) => unknown;
}

export const PAGE = ['page_size', 'page_token'] as const;

export function fieldsOf(body: unknown, known: readonly string[], shape: string): Record<string, unknown> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw wrongBody(shape);
  for (const name of Object.keys(body)) {
    if (!known.includes(name))
      throw new FleetError(
        'invalid_input',
        `Cannot use field "${name.slice(0, 50)}": there are: ${known.join(', ')}`,
      );
  }
  return body as Record<string, unknown>;
}

export function wrongBody(shape: string): FleetError {
  return new FleetError('invalid_input', `Cannot read body: it must be ${shape}`);
}

export function timeIn(text: string | null, parameter: string): number | undefined {
  return text === null ? undefined : parseTime(text, parameter);
}

export function pageIn(query: URLSearchParams) {
  return { pageSize: sizeOf(query), pageToken: tokenOf(query) };
}

export function flag(text: string | null, parameter: string): boolean {
  if (text === null || text === 'false') return false;
  if (text === 'true') return true;
  throw new FleetError('invalid_input', `Cannot use ${parameter}: it must be true or false`);
}

/** 0 where it is not given; `pageOf` refuses what is too large. */
export function sizeOf(query: URLSearchParams): number {
  const text = query.get('page_size');
  if (text !== null && !/^[1-9]\d{0,8}$/.test(text))
    throw new FleetError(
      'invalid_input',
      `Cannot list: page_size must be 1 to ${MAX_PAGE}, and is "${text.slice(0, 20)}"`,
    );
  return Number(text);
}

export const tokenOf = (query: URLSearchParams): string => query.get('page_token') ?? '';

export function json<Schema extends DescMessage>(schema: Schema, message: MessageShape<Schema>): unknown {
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true });
}
