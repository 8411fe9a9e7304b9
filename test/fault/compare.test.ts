import { describe, expect, test } from 'vitest';
import { compare, type Evidence, type StoredSeries, type Violation } from './compare.ts';
import type { LedgerEntry } from './ledger.ts';
import { dictionaryOf, endedSeries, labelsOf, sampleAt, tickNumber } from './oracle-source.ts';
import type { WitnessedTick } from './witness.ts';

// Lost without these: an oracle that is blind to one kind of violation passes a product that breaks its promise.

const SEED = 5;
const NODE = 'oracle-0';
const START_MS = 1_800_000_000_000;
/** Over the first change of the series, so that stale markers are due. */
const TICKS = 45;

function tickAt(count: number, changes: Partial<WitnessedTick> = {}): WitnessedTick {
  const timestampMs = START_MS + count * 1_000;
  const n = tickNumber(1, count);
  const event = count === 19 || count === 39 ? `${NODE}/${n}` : undefined;
  return { node: NODE, group: 'fast', n, beganMs: timestampMs + 3, timestampMs, event, ...changes };
}

const allTicks = (): WitnessedTick[] => Array.from({ length: TICKS }, (_, index) => tickAt(index + 1));

interface Sample {
  readonly key: string;
  at: number;
  value: number;
}

/** What a store holds that took these ticks as they were. */
function samplesOf(ticks: readonly WitnessedTick[]): Sample[] {
  return ticks.flatMap((tick) => {
    const at = tick.timestampMs ?? tick.beganMs;
    const present = dictionaryOf(tick.group, tick.n).slots.flatMap((slot) => {
      const value = sampleAt(SEED, tick.node, tick.group, slot, tick.n);
      return value === undefined ? [] : [{ key: slot.key, at, value }];
    });
    return [...present, ...endedSeries(tick.group, tick.n).map((key) => ({ key, at, value: Number.NaN }))];
  });
}

function toSeries(samples: readonly Sample[], node = NODE): StoredSeries[] {
  const byKey = Map.groupBy(samples, ({ key }) => key);
  return [...byKey].map(([key, of]) => {
    const [name = '', slot = ''] = key.split('/');
    const unheardOf = { __name__: name, cluster: 'oracle', node, group: 'fast', slot };
    return {
      metric: labelsOf(node, 'fast', key) ?? unheardOf,
      timestamps: of.map(({ at }) => at),
      values: of.map(({ value }) => value),
    };
  });
}

interface Scene {
  readonly ticks?: readonly WitnessedTick[];
  readonly samples?: readonly Sample[];
  readonly answered?: readonly Sample[];
  readonly losses?: readonly LedgerEntry[];
  readonly delivered?: readonly string[];
  readonly undecided?: number;
}

function look({
  ticks = allTicks(),
  samples = samplesOf(ticks),
  answered = samples,
  losses = [],
  delivered,
  undecided = 0,
}: Scene) {
  const events = ticks.flatMap(({ event }) => (event === undefined ? [] : [event]));
  const evidence: Evidence = {
    seed: SEED,
    ticks,
    raw: toSeries(samples),
    answered: toSeries(answered),
    losses,
    delivered: new Set(delivered ?? events),
    undecided,
  };
  const verdict = compare(evidence);
  const found = Object.fromEntries([...verdict.violations].map(([kind, { count }]) => [kind, count]));
  return { verdict, found: found as Partial<Record<Violation, number>> };
}

const loss = (fromCount: number, toCount: number, changes: Partial<LedgerEntry> = {}): LedgerEntry => ({
  node: NODE,
  fromMs: START_MS + fromCount * 1_000,
  toMs: START_MS + toCount * 1_000,
  samples: countOf(fromCount, toCount),
  reason: 'trimmed',
  estimated: false,
  detail: '',
  ...changes,
});

const isOf = ({ at }: Sample, from: number, to = from): boolean =>
  at >= START_MS + from * 1_000 && at <= START_MS + to * 1_000;
const without = (from: number, to = from): Sample[] =>
  samplesOf(allTicks()).filter((sample) => !isOf(sample, from, to));
const countOf = (from: number, to = from): number =>
  samplesOf(allTicks()).filter((sample) => isOf(sample, from, to) && !Number.isNaN(sample.value)).length;

test('a store that has everything once passes, markers of ended series included', () => {
  const { verdict, found } = look({});
  expect(found).toEqual({});
  expect(verdict.stored).toBe(countOf(1, TICKS));
  expect(verdict.expected).toBe(verdict.stored);
  expect(verdict.staleMarkers.expected).toBeGreaterThan(0);
  expect(verdict.staleMarkers.stored).toBe(verdict.staleMarkers.expected);
  expect(verdict.events).toEqual({ expected: 2, delivered: 2, ledgered: 0 });
});

test('copies that the store has not merged yet are counted, and are no violation', () => {
  const samples = samplesOf(allTicks());
  const { verdict, found } = look({ samples: [...samples, ...samples.slice(0, 7)], answered: samples });
  expect(found).toEqual({});
  expect(verdict.copies).toBe(7);
});

test('values may differ by what the decimals of the store cost, and not by more', () => {
  const nudged = (by: number) =>
    samplesOf(allTicks()).map((one) =>
      one.key === 'oracle_float/0' ? { ...one, value: one.value * (1 + by) } : one,
    );
  expect(look({ samples: nudged(5e-12) }).found).toEqual({});
  expect(look({ samples: nudged(5e-11) }).found.wrong).toBe(TICKS);
});

test('an agent that is done with a tick and does not have it fails, even if the tick is stored', () => {
  const ticks = allTicks().map((tick) =>
    tick.timestampMs === START_MS + 7_000 ? tickAt(7, { timestampMs: undefined, forgotten: true }) : tick,
  );
  expect(look({ ticks }).found).toEqual({ forgotten: 1 });
});

describe('samples', () => {
  test('that are answered twice are duplicates', () => {
    const samples = samplesOf(allTicks());
    expect(look({ samples, answered: [...samples, samples[3]!] }).found).toEqual({ duplicate: 1 });
  });

  test('with another value are wrong, also where only a hidden copy is', () => {
    const samples = samplesOf(allTicks());
    const copy = { ...samples[5]!, value: samples[5]!.value + 1 };
    expect(look({ samples: [...samples, copy], answered: samples }).found).toEqual({ wrong: 1 });
  });

  test('at a time of no tick are invented: a resend with another timestamp', () => {
    const moved = samplesOf([tickAt(7)]).map((one) => ({ ...one, at: one.at + 1 }));
    const { found } = look({ samples: [...samplesOf(allTicks()), ...moved] });
    expect(found).toEqual({ invented: moved.length });
  });

  test('of a slot that was absent are invented', () => {
    const samples = samplesOf(allTicks());
    const has = new Set(samples.filter(({ key }) => key === 'oracle_sparse/0').map(({ at }) => at));
    const at = samples.find((one) => !has.has(one.at))!.at;
    expect(look({ samples: [...samples, { key: 'oracle_sparse/0', at, value: 1 }] }).found).toEqual({
      invented: 1,
    });
  });

  test('of a series that nobody has are invented, and a marker for a series that goes on too', () => {
    const at = tickAt(3).timestampMs!;
    const more = [
      { key: 'oracle_unheard_of/0', at, value: 1 },
      { key: 'oracle_gauge/0', at, value: Number.NaN },
    ];
    const answered = samplesOf(allTicks());
    expect(look({ samples: [...answered, ...more], answered }).found).toEqual({ invented: 2 });
  });

  test('that came out under another node are invented there and missing here', () => {
    const ticks = allTicks();
    const samples = samplesOf(ticks);
    const verdict = compare({
      seed: SEED,
      ticks,
      raw: [...toSeries(samples.slice(1)), ...toSeries(samples.slice(0, 1), 'oracle-clone-0')],
      answered: [],
      losses: [],
      delivered: new Set(ticks.flatMap(({ event }) => event ?? [])),
      undecided: 0,
    });
    expect([...verdict.violations.keys()].sort()).toEqual(['invented', 'missing_without_reason']);
  });

  test('with one label more are invented, and beside the right ones duplicates', () => {
    const ticks = allTicks();
    const series = toSeries(samplesOf(ticks));
    const twin = { ...series[3]!, metric: { ...series[3]!.metric, instance: 'x' } };
    const { violations } = compare({
      seed: SEED,
      ticks,
      raw: [...series, twin],
      answered: [...series, twin],
      losses: [],
      delivered: new Set(ticks.flatMap(({ event }) => event ?? [])),
      undecided: 0,
    });
    expect(violations.get('invented')?.count).toBe(TICKS);
    expect(violations.get('duplicate')?.count).toBe(TICKS);
  });

  test('of two ticks with one timestamp collide', () => {
    const ticks = [...allTicks(), tickAt(TICKS + 1, { timestampMs: tickAt(TICKS).timestampMs })];
    expect(look({ ticks, samples: samplesOf(allTicks()) }).found).toEqual({ collision: 1 });
  });
});

describe('a tick whose recording was not seen to end', () => {
  const open = tickAt(TICKS + 1, { timestampMs: undefined });
  const ticks = [...allTicks(), open];
  const [sample, ...others] = samplesOf([{ ...open, timestampMs: open.beganMs - 3 }]);

  test('may be absent', () => {
    expect(look({ ticks, samples: samplesOf(allTicks()) }).found).toEqual({});
  });

  test('may be there, and is then expected', () => {
    const { verdict, found } = look({ ticks, samples: [...samplesOf(allTicks()), sample!, ...others] });
    expect(found).toEqual({});
    expect(verdict.stored).toBe(countOf(1, TICKS) + 1 + others.length);
  });

  test('may not be there in part, whatever part it is', () => {
    expect(look({ ticks, samples: [...samplesOf(allTicks()), sample!] }).found).toEqual({
      missing_without_reason: others.length,
    });
    expect(look({ ticks, samples: [...samplesOf(allTicks()), ...others] }).found).toEqual({
      missing_without_reason: 1,
    });
  });

  test('may not be at another time', () => {
    const late = [sample!, ...others].map((one) => ({ ...one, at: one.at + 100 }));
    expect(look({ ticks, samples: [...samplesOf(allTicks()), ...late] }).found).toEqual({
      invented: late.length,
    });
  });
});

describe('what is missing', () => {
  test('and in no entry is missing without reason', () => {
    expect(look({ samples: without(10, 12) }).found).toEqual({ missing_without_reason: countOf(10, 12) });
  });

  test('counts also where it is one sample of a tick, or only the markers', () => {
    const samples = samplesOf(allTicks());
    expect(look({ samples: samples.toSpliced(20, 1) }).found).toEqual({ missing_without_reason: 1 });
    expect(look({ samples: samples.filter(({ value }) => !Number.isNaN(value)) }).found).toEqual({
      missing_without_reason: 1,
    });
  });

  test('and in an entry of its node and time is accounted for by its reason', () => {
    const { verdict, found } = look({ samples: without(10, 12), losses: [loss(10, 12)] });
    expect(found).toEqual({});
    expect(verdict.ledger.byReason).toEqual(new Map([['trimmed', countOf(10, 12)]]));
  });

  test("is not covered by another node's entry, nor by one of another time", () => {
    const losses = [loss(10, 12, { node: 'oracle-1' }), loss(30, 32)];
    expect(look({ samples: without(10, 12), losses }).found.missing_without_reason).toBe(countOf(10, 12));
  });

  test('is not covered by a blanket entry that claims less than is missing', () => {
    const losses = [loss(0, 100, { samples: 0, reason: 'corrupt', estimated: true })];
    expect(look({ samples: without(10, 12), losses }).found).toEqual({
      missing_beyond_ledger: countOf(10, 12),
    });
    const exact = [loss(10, 12, { samples: countOf(10, 12) - 2 })];
    expect(look({ samples: without(10, 12), losses: exact }).found).toEqual({ missing_beyond_ledger: 2 });
  });

  test('fits into overlapping entries whichever way they lie', () => {
    const losses = [loss(1, 40, { samples: countOf(12, 12) }), loss(8, 11, { samples: countOf(10, 11) })];
    expect(look({ samples: without(10, 12), losses }).found).toEqual({});
  });

  test('fits also where an exact entry covers what an estimate would have covered too', () => {
    const losses = [
      loss(10, 12, { samples: countOf(12) }),
      loss(10, 11, { samples: countOf(10, 11), estimated: true }),
    ];
    expect(look({ samples: without(10, 12), losses }).found).toEqual({});
  });

  test('and estimated a little too low is accounted for', () => {
    const samples = Math.ceil(countOf(10, 12) * 0.85);
    expect(
      look({ samples: without(10, 12), losses: [loss(10, 12, { samples, estimated: true })] }).found,
    ).toEqual({});
  });
});

describe('the ledger', () => {
  test('with exact entries for samples that are stored is over-reported', () => {
    const losses = [loss(10, 12)];
    const { verdict, found } = look({ losses });
    expect(found).toEqual({ ledger_over_reported: countOf(10, 12) });
    expect(verdict.ledger.idle).toEqual(losses);
    expect(look({ losses, undecided: countOf(10, 12) }).found).toEqual({});
  });

  test('with too high an estimate is only reported', () => {
    const { verdict, found } = look({ losses: [loss(10, 12, { estimated: true })] });
    expect(found).toEqual({});
    expect(verdict.ledger.overReportedEstimated).toBe(countOf(10, 12));
  });
});

describe('events', () => {
  const [first, second] = allTicks().flatMap(({ event }) => event ?? []);

  test('that were not delivered are missing, unless an entry covers their time', () => {
    expect(look({ delivered: [first!] }).found).toEqual({ event_missing: 1 });
    const losses = [loss(38, 40, { samples: 1, estimated: true })];
    const { verdict, found } = look({ delivered: [first!], losses });
    expect(found).toEqual({});
    expect(verdict.events.ledgered).toBe(1);
  });

  test('that nobody raised are invented', () => {
    expect(look({ delivered: [first!, second!, 'oracle-9/1'] }).found).toEqual({ event_invented: 1 });
  });
});
