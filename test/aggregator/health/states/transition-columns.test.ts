import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  TransitionColumns,
  type TransitionFilter,
} from '../../../../aggregator/health/states/transition-columns.ts';
import { seededRandom } from '../../../support/random.ts';

interface Row {
  readonly number: number;
  readonly uuid: string;
  readonly cluster: string;
  readonly node: string;
  readonly atMs: number;
  readonly to: HealthState;
  readonly flapping: boolean;
}

const { DEGRADED, CRITICAL, FLAPPING } = HealthState;

/** The same as the columns, the plain way. */
function findPlainly(
  rows: readonly Row[],
  filter: TransitionFilter,
  before: number,
  limit: number,
): number[] {
  const {
    uuid,
    cluster,
    node,
    sinceMs = Number.NEGATIVE_INFINITY,
    untilMs = Number.POSITIVE_INFINITY,
    state,
  } = filter;
  return rows
    .filter(
      (row) =>
        row.number < before &&
        (uuid === undefined || row.uuid === uuid) &&
        (cluster === undefined || row.cluster === cluster) &&
        (node === undefined || row.node === node) &&
        row.atMs >= sinceMs &&
        row.atMs < untilMs &&
        (state === undefined || (state === FLAPPING ? row.flapping : row.to === state)),
    )
    .map(({ number }) => number)
    .reverse()
    .slice(0, limit);
}

describe('the columns of the transition log', () => {
  it.each([1, 2, 3])('find what a plain search finds, with rows coming and going (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const pick = (n: number): number => Math.floor(random() * n);
    const columns = new TransitionColumns();
    let rows: Row[] = [];
    for (let number = 1; number < 6000; number++) {
      const gpu = pick(60);
      const row = {
        number,
        uuid: `GPU-${gpu}`,
        cluster: gpu % 2 === 0 ? 'east' : 'west',
        node: `n${gpu % 10}`,
        atMs: number * 10 - pick(500),
        to: random() < 0.5 ? DEGRADED : CRITICAL,
        flapping: random() < 0.2,
      };
      columns.add(row);
      rows.push(row);
      if (random() < 0.5) {
        const uuid = random() < 0.5 ? `GPU-${pick(70)}` : undefined;
        const gone = rows.find((one) => uuid === undefined || one.uuid === uuid);
        expect(columns.dropOldest(uuid)).toBe(gone?.number);
        rows = rows.filter((one) => one !== gone);
      }
      if (number % 50 !== 0) continue;
      expect(columns.size).toBe(rows.length);
      expect(columns.oldest?.number).toBe(rows[0]?.number);
      const filter: TransitionFilter = {
        ...(random() < 0.3 && { uuid: `GPU-${pick(70)}` }),
        ...(random() < 0.3 && { cluster: random() < 0.8 ? 'east' : 'north' }),
        ...(random() < 0.3 && { node: `n${pick(11)}` }),
        ...(random() < 0.3 && { sinceMs: pick(number * 10) }),
        ...(random() < 0.3 && { untilMs: pick(number * 10) }),
        ...(random() < 0.3 && { state: [DEGRADED, CRITICAL, FLAPPING][pick(3)]! }),
      };
      const before = random() < 0.5 ? Number.POSITIVE_INFINITY : pick(number);
      const limit = 1 + pick(40);
      expect(columns.find(filter, before, limit)).toEqual(findPlainly(rows, filter, before, limit));
      expect(columns.rowsOf('GPU-1')).toBe(rows.filter(({ uuid }) => uuid === 'GPU-1').length);
    }
  });

  it('does not grow while as many leave as come: a year at the limit takes no more memory', () => {
    const columns = new TransitionColumns();
    const row = { cluster: 'east', node: 'n0', to: DEGRADED, flapping: false, atMs: 0 };
    for (let number = 1; number <= 50_000; number++) {
      columns.add({ ...row, number, uuid: `GPU-${number}` });
      if (number > 500) columns.dropOldest();
    }
    expect(columns.size).toBe(500);
    expect(columns.capacity).toBe(1024);
    expect(columns.rowsOf('GPU-1')).toBe(0);
  });
});
