import { expect, test } from 'vitest';
import { FAULT_KINDS, type FaultKind } from './fault.ts';
import { makePlan } from './plan.ts';

const SEEDS = Array.from({ length: 50 }, (_, index) => index + 1);

// Lost without it: a run that failed once could not be run again.
test('a plan is the same for the same seed and length, and another for another', () => {
  expect(makePlan(7, 5)).toEqual(makePlan(7, 5));
  expect(makePlan(8, 5).faults).not.toEqual(makePlan(7, 5).faults);
});

// Lost without it: a short run passes because what breaks the product is not in it.
test.each([2, 20, 30])(
  'in %i minutes every kind of fault comes at least once, whatever the seed',
  (minutes) => {
    for (const seed of SEEDS) {
      const kinds = new Set(makePlan(seed, minutes).faults.map(({ kind }) => kind));
      expect([...kinds].sort(), `seed ${seed}`).toEqual(FAULT_KINDS.toSorted());
    }
  },
);

test.each([2, 20, 30])(
  'in %i minutes each server and agent is killed, and each agent stopped or cut off',
  (minutes) => {
    for (const seed of SEEDS) {
      const { faults, nodes } = makePlan(seed, minutes);
      const killed = new Set(faults.filter(({ kind }) => kind === 'kill').map(({ target }) => target));
      expect([...killed].sort(), `seed ${seed}`).toEqual(['store', 'nats', 'aggregator', ...nodes].sort());
    }
  },
);

// Lost without it: a fault is undone by another one of the same target, and the run tests something else.
test('a fault is undone before the next one of its target, and all before the end', () => {
  for (const seed of SEEDS) {
    for (const minutes of [2, 20]) {
      const { faults } = makePlan(seed, minutes);
      for (const lane of Object.values(Object.groupBy(faults, ({ target }) => target))) {
        lane!.forEach((fault, index) => {
          const next = lane![index + 1]?.atS ?? minutes * 60;
          expect(
            fault.atS + fault.forS,
            `seed ${seed}: ${fault.kind} of ${fault.target}`,
          ).toBeLessThanOrEqual(next);
        });
      }
    }
  }
});

// Lost without it: the product is blamed for what its canary cannot see.
test('a copy is restored when it is older than the canary shows', () => {
  for (const seed of SEEDS) {
    const { faults } = makePlan(seed, 2);
    const at = (kind: FaultKind): number => faults.find((fault) => fault.kind === kind)!.atS;
    expect(at('restore-store') - at('copy-store')).toBeGreaterThanOrEqual(75);
  }
});

// Lost without it: clocks wander off further than the store takes samples, and the product is blamed for it.
test('a clock goes both ways, and never further than three minutes from the true time', () => {
  for (const seed of SEEDS) {
    let offsetS = 0;
    const steps = makePlan(seed, 30).faults.flatMap(({ stepS }) => stepS ?? []);
    for (const step of steps) {
      offsetS += step;
      expect(Math.abs(offsetS)).toBeLessThan(180.1);
    }
    expect(steps.some((step) => step > 0) && steps.some((step) => step < 0)).toBe(true);
  }
});
