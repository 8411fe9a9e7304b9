import { expect, test } from 'vitest';
import { EventJournal, type PatternEvent } from '../../../../aggregator/health/patterns/event-journal.ts';
import { atOnce } from '../../../../aggregator/health/work.ts';

const T0 = 1_760_000_000_000;
const DAY = 86_400_000;

function event(ms: number, gpu = 'GPU-1', code = 'xid 48'): PatternEvent {
  return { ms, cluster: 'prod', node: 'n1', gpu, code };
}

test('equal events of one GPU within 5 s are one, of another GPU or code they are not', () => {
  const journal = new EventJournal();
  const kept = [0, 3000, 7000, 12_001].map((ms) => journal.add(event(T0 + ms)));
  expect(kept).toEqual([true, false, false, true]);
  expect(journal.add(event(T0, 'GPU-2'))).toBe(true);
  expect(journal.add(event(T0, 'GPU-1', 'xid 63'))).toBe(true);
  expect(journal.coalesced).toBe(2);
});

test('events that come late are in order of time', () => {
  const journal = new EventJournal();
  for (const ms of [50_000, 10_000, 30_000]) journal.add(event(T0 + ms));
  expect(atOnce(journal.between(T0, T0 + 50_000)).map(({ ms }) => ms - T0)).toEqual([10_000, 30_000]);
});

// Lost without it: one node with a bad link, 97 % of a fleet's events, pushes everybody else's history out.
test('one GPU that says the same all day is kept 48 times a day', () => {
  const journal = new EventJournal();
  for (let i = 0; i < 2000; i++) journal.add(event(T0 - (T0 % DAY) + i * 10_000));
  expect(journal.size).toBe(48);
  expect(journal.add(event(T0 - (T0 % DAY) + DAY))).toBe(true);
});

test('the oldest go where there are too many, and after 90 days', () => {
  const journal = new EventJournal(3);
  for (let i = 0; i < 10_000; i++) journal.add(event(T0 + i * 1000, `GPU-${i}`));
  expect(journal.size).toBe(3000);
  expect(atOnce(journal.between(0, Number.POSITIVE_INFINITY))[0]!.gpu).toBe('GPU-7000');
  journal.expire(T0 + 10_000_000 + 91 * DAY);
  expect(journal.size).toBe(0);
});

test('what changed is stored once; put back, the same burst is still one event', () => {
  const journal = new EventJournal();
  for (let i = 0; i < 1500; i++) journal.add(event(T0 + i * 1000, `GPU-${i}`));
  const { chunks } = journal.changes();
  expect([...chunks.keys()]).toEqual([0, 1]);
  journal.add(event(T0 + 2_000_000, 'late'));
  expect([...journal.changes().chunks.keys()]).toEqual([1]);
  expect([...journal.changes().chunks.keys()]).toEqual([]);
  journal.allChanged();
  const again = new EventJournal();
  for (const [id, chunk] of JSON.parse(JSON.stringify([...journal.changes().chunks])))
    again.restore(id, chunk);
  expect(atOnce(again.between(0, Number.POSITIVE_INFINITY))).toEqual(
    atOnce(journal.between(0, Number.POSITIVE_INFINITY)),
  );
  expect(again.add(event(T0 + 2_001_000, 'late'))).toBe(false);
  again.add(event(T0 + 3_000_000));
  expect([...again.changes().chunks.keys()]).toEqual([1]);
});
