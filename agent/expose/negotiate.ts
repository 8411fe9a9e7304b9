import type { Format } from './exposition.ts';

interface Wish {
  readonly format: Format;
  readonly quality: number;
}

/**
 * The format that an Accept header asks for. Prometheus sends
 * `application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,...;q=0.5,text/plain;version=0.0.4;q=0.2,*\/*;q=0.1`
 * Anything that names no format of ours, also a browser's header, gets text.
 */
export function formatFor(accept: string | undefined): Format {
  // A header has at most 16 KiB in Node; this is more than any scraper sends.
  const wishes = (accept ?? '').slice(0, 1024).split(',').flatMap(wishOf);
  const best = wishes.reduce<Wish | undefined>(
    (found, wish) => (wish.quality > (found?.quality ?? 0) ? wish : found),
    undefined,
  );
  return best?.format ?? 'text';
}

function wishOf(part: string): Wish[] {
  const [type = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
  const parameter = (name: string): string | undefined =>
    parameters.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
  const q = Number(parameter('q') ?? 1);
  const quality = q >= 0 && q <= 1 ? q : 0;
  if (type === 'text/plain') return [{ format: 'text', quality }];
  if (type !== 'application/openmetrics-text') return [];
  const version = parameter('version') ?? '1.0.0';
  return version === '1.0.0' || version === '0.0.1' ? [{ format: 'openmetrics', quality }] : [];
}
