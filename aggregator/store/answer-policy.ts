/** What an answer of the store asks of us. */
export type Verdict =
  /** 2xx. */
  | 'accepted'
  /** No answer, 5xx, 408, 429, or one that nobody foresaw: the same bytes again, later. */
  | 'retry'
  /** The samples themselves are at fault, or there are too many of them: look for the series. */
  | 'content'
  /** Nobody may write here, or there is nothing to write to: hold everything, probe now and then. */
  | 'path';

const CONTENT = new Set([400, 409, 413, 415, 422]);
const PATH = new Set([401, 403, 404]);

export function verdictOf(status: number): Verdict {
  if (status >= 200 && status < 300) return 'accepted';
  if (CONTENT.has(status)) return 'content';
  return PATH.has(status) ? 'path' : 'retry';
}

const RETRY_FIRST_MS = 100;
const RETRY_LONGEST_MS = 30_000;
/** A Retry-After is a floor, up to this, ms. */
const RETRY_AFTER_LONGEST_MS = 300_000;
/** Added to it at random, so that not everybody who was sent away is back at once. */
const RETRY_AFTER_JITTER = 0.2;

/** How long to wait before attempt `attempt + 1`, ms: full jitter, and never less than the store asked for. */
export function retryWait(attempt: number, retryAfterMs: number, random: () => number): number {
  const backoff = random() * Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(attempt, 20));
  return Math.max(backoff, retryAfterMs * (1 + RETRY_AFTER_JITTER * random()));
}

/** The Retry-After header, seconds or an HTTP date, as ms from now, within bounds; 0 where there is none. */
export function retryAfterMs(header: string | undefined, now: number): number {
  if (header === undefined) return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), RETRY_AFTER_LONGEST_MS) : 0;
}
