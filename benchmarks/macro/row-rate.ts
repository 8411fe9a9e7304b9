import { setTimeout as sleep } from 'node:timers/promises';
import { ROWS_AGE_MS, type Store } from './store.ts';

export interface RowWatch {
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** The load has ended by itself: the rate is that of what was seen. */
  readonly isOver?: () => boolean;
  /** After each look. */
  readonly onRows?: (rows: number) => void;
}

const LOOK_EVERY_MS = 50;
/** The store renews its count once a second: right after that there is nothing to see, and looking costs it time. */
const RENEWED_MS = 900;
/** The first row is waited for this long. */
const FIRST_ROW_MS = 60_000;

/**
 * The rate at which rows come into a fresh store after the warm-up, samples a second, by its own count. A load too
 * short to outlast the warm-up is measured from its begin.
 */
export async function watchRows(
  store: Store,
  { warmUpMs, measureMs, isOver = () => false, onRows = () => {} }: RowWatch,
): Promise<number> {
  const began = performance.now();
  let overAt = Number.POSITIVE_INFINITY;
  // The moments at which the count was renewed: between them it is old.
  const looks: { at: number; rows: number }[] = [{ at: began, rows: 0 }];
  const goesOn = (now: number): boolean =>
    looks.length === 1
      ? now - began < FIRST_ROW_MS
      : now - began < warmUpMs + measureMs && now < overAt + ROWS_AGE_MS;
  while (goesOn(performance.now())) {
    if (isOver()) overAt = Math.min(overAt, performance.now());
    const rows = await store.rows();
    onRows(rows);
    const isRenewed = rows !== looks.at(-1)!.rows;
    if (isRenewed) looks.push({ at: performance.now(), rows });
    await sleep(isRenewed ? RENEWED_MS : LOOK_EVERY_MS);
  }
  // The count that a load left behind when it ended was renewed late: the one before it is exact.
  const end = overAt < Number.POSITIVE_INFINITY && looks.length > 3 ? looks.at(-2)! : looks.at(-1)!;
  const start = looks.find(({ at }) => at - began >= warmUpMs && at < end.at) ?? looks[0]!;
  if (end.rows === start.rows) throw new Error('no rows came to the store');
  return (end.rows - start.rows) / ((end.at - start.at) / 1000);
}
