const FIRST_MS = 1_000;
const LAST_MS = 5 * 60_000;

/**
 * How long to wait before the next try after `tries` that came to nothing: a random part of a step that doubles from
 * 1 s to 5 min (full jitter), so that a scheduler that is back is not met by all at once.
 */
export function retryMs(tries: number, random: () => number): number {
  return Math.round(random() * Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(tries, 20)));
}
