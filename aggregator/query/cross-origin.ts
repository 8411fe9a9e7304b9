import { cors } from '@connectrpc/connect';

/** A browser asks again after this long, seconds. */
const PREFLIGHT_SECONDS = 600;
const ALLOWED_HEADERS = [...cors.allowedHeaders, 'Authorization'].join(', ');

/** What a browser must read before it gives the answer to a page of `origin`, which the guard has let pass. */
export function crossOriginHeaders(origin: string): ReadonlyMap<string, string> {
  return new Map([
    ['access-control-allow-origin', origin],
    ['access-control-expose-headers', cors.exposedHeaders.join(', ')],
    ['vary', 'Origin'],
  ]);
}

/** What a browser must read before it sends the call of such a page. */
export const PREFLIGHT_HEADERS = {
  'access-control-allow-methods': cors.allowedMethods.join(', '),
  'access-control-allow-headers': ALLOWED_HEADERS,
  'access-control-max-age': String(PREFLIGHT_SECONDS),
};
