import { createHash } from 'node:crypto';

/**
 * A text as one token of a NATS subject. Letters, digits, `-` and `_` stand for themselves; any other byte of its
 * UTF-8 is `%` and two hex digits; an empty text is `_` (and a lone `_` is `%5F`). Node names have dots, and keys
 * may hold anything.
 *
 * nats-server cuts a connection off at a control line over 4 KiB, so a token of more than 200 characters is cut and
 * ends in `~` and a hash: still one subject for one text, but not to be read back.
 */
export function toToken(text: string): string {
  if (text === '') return '_';
  if (text === '_') return '%5F';
  const token = text.replace(/[^A-Za-z0-9_-]+/g, escapeBytes);
  if (token.length <= MAX_TOKEN) return token;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return `${token.slice(0, MAX_TOKEN - 17)}~${hash}`;
}

/** The text of a token, or undefined where it was cut or is no token of ours. */
export function fromToken(token: string): string | undefined {
  if (token === '_') return '';
  if (!/^(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+$/.test(token)) return undefined;
  try {
    return decodeURIComponent(token);
  } catch {
    return undefined;
  }
}

export function toSubject(prefix: string, ...parts: readonly string[]): string {
  return [prefix, ...parts.map(toToken)].join('.');
}

const MAX_TOKEN = 200;

function escapeBytes(run: string): string {
  let out = '';
  for (const byte of Buffer.from(run, 'utf8')) out += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return out;
}
