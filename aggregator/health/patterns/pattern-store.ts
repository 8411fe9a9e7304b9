import * as v from 'valibot';
import type { DailyFigures } from './daily-figures.ts';
import type { EventJournal } from './event-journal.ts';

/** What the patterns need of a database: the shape of the ledger's shelf. */
export interface PatternShelf {
  write(changes: readonly { readonly key: string; readonly value?: unknown }[], sync: boolean): Promise<void>;
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>;
}

/** A change of the stored form gets another name, and the old entries are left alone. */
const ROOT = 'patterns/1/';
const EVENTS = `${ROOT}events/`;
const FIGURES = `${ROOT}figures/`;
const STARTED = `${ROOT}started`;
/** Rows written at a time: about 100 kB. */
const BATCH = 200;

const text = v.pipe(v.string(), v.maxLength(1000));
const chunkSchema = v.array(v.tuple([v.pipe(v.number(), v.finite()), text, text, text, text]));
const rowSchema = v.object({
  first: v.pipe(v.number(), v.integer(), v.minValue(0)),
  days: v.array(v.nullable(v.pipe(v.number(), v.finite()))),
});

/** Chunks of the journal and rows of figures that changed since the last time. */
export async function storePatterns(
  shelf: PatternShelf,
  journal: EventJournal,
  figures: DailyFigures,
  startedMs: number,
): Promise<void> {
  try {
    const { chunks, oldest } = journal.changes();
    for (const [id, value] of chunks) await shelf.write([{ key: chunkKey(id), value }], false);
    await dropChunks(shelf, oldest);
    let batch: { key: string; value?: unknown }[] = [{ key: STARTED, value: startedMs }];
    for (const [key, row] of figures.changes()) {
      batch.push(row === undefined ? { key: FIGURES + key } : { key: FIGURES + key, value: row });
      if (batch.length < BATCH) continue;
      await shelf.write(batch, false);
      batch = [];
    }
    await shelf.write(batch, true);
  } catch (error) {
    journal.allChanged();
    figures.allChanged();
    throw error;
  }
}

/** Gives the time since when was watched, where it is known. */
export async function restorePatterns(
  shelf: PatternShelf,
  journal: EventJournal,
  figures: DailyFigures,
  nowMs: number,
): Promise<number | undefined> {
  for await (const [key, value] of shelf.entries(EVENTS)) {
    const chunk = v.safeParse(chunkSchema, value);
    const id = Number(key.slice(EVENTS.length));
    if (chunk.success && Number.isSafeInteger(id)) journal.restore(id, chunk.output);
  }
  for await (const [key, value] of shelf.entries(FIGURES)) {
    const row = v.safeParse(rowSchema, value);
    if (row.success) figures.restore(key.slice(FIGURES.length), row.output, nowMs);
  }
  for await (const [key, value] of shelf.entries(STARTED))
    if (key === STARTED && typeof value === 'number') return value;
  return undefined;
}

async function dropChunks(shelf: PatternShelf, oldest: number): Promise<void> {
  const gone: { key: string }[] = [];
  for await (const [key] of shelf.entries(EVENTS)) {
    if (Number(key.slice(EVENTS.length)) >= oldest) break;
    gone.push({ key });
  }
  if (gone.length > 0) await shelf.write(gone, false);
}

function chunkKey(id: number): string {
  return EVENTS + String(id).padStart(16, '0');
}
