import { describe, expect, test } from 'vitest';
import {
  NAB_PROFILES,
  type NabCorpus,
  readNab,
  readPublishedScores,
} from '../../../../benchmarks/accuracy/nab/corpus.ts';
import { FIXTURES } from '../../../../benchmarks/accuracy/nab/published.ts';
import { nabWorth, scoreAt, sweep } from '../../../../benchmarks/accuracy/nab/scorer.ts';
import { sharedData } from '../../../support/data.ts';

const PROFILE = { tp: 1, fn: 1, fp: 0.11 };

/** 1,000 rows, 100 of them in probation, one anomaly from row 400 to 499. */
const CORPUS: NabCorpus = {
  series: [{ name: 'one', values: new Float64Array(1000), probation: 100, windows: [[400, 499]] }],
  profiles: { standard: PROFILE, reward_low_FP_rate: PROFILE, reward_low_FN_rate: PROFILE },
};
const WORTH = nabWorth(CORPUS, PROFILE);

function alarms(...rows: number[]): Float64Array[] {
  const scores = new Float64Array(1000);
  for (const row of rows) scores[row] = 1;
  return [scores];
}

describe('the NAB scorer on one window', () => {
  test.each([
    ['an alarm in its first row is all there is to win', [400], 100],
    ['later alarms in a window that was found add nothing', [400, 401, 499], 100],
    ['silence is 0', [], 0],
    ['an alarm in probation is not looked at', [50, 400], 100],
    ['an alarm in the last row is worth little', [499], 51.3],
    ['one false alarm far away costs 5.5', [150, 400], 94.5],
    ['one false alarm right behind the window costs next to nothing', [400, 500], 99.9],
  ])('%s', (_, rows, score) => {
    expect(scoreAt(WORTH, alarms(...rows), 1).normalised).toBeCloseTo(score, 0);
  });

  test('the sweep takes the threshold that scores best, and none where silence is best', () => {
    const [scores] = alarms(150, 160, 400);
    scores![400] = 3;
    expect(sweep(WORTH, [scores!])).toMatchObject({
      normalised: 100,
      threshold: 3,
      found: 1,
      falseAlarms: 0,
    });
    const nothing = { normalised: 0, threshold: Number.POSITIVE_INFINITY, found: 0, falseAlarms: 0 };
    expect(sweep(WORTH, alarms(150))).toEqual(nothing);
    expect(sweep(WORTH, alarms())).toEqual(nothing);
  });

  test('equal scores are one threshold: a detector that says 1 everywhere found nothing', () => {
    expect(sweep(WORTH, [new Float64Array(1000).fill(1)]).normalised).toBeLessThan(30);
    expect(sweep(WORTH, [new Float64Array(1000).fill(Number.NaN)]).normalised).toBe(0);
  });
});

const folder = sharedData('nab');

describe.skipIf(!folder)('the NAB scorer on the corpus', () => {
  const corpus = folder ? readNab(folder)! : CORPUS;

  test('58 streams, 365,558 rows and 116 windows: a file that is left out makes any score look better', () => {
    expect(corpus.series.length).toBe(58);
    expect(corpus.series.reduce((rows, { values }) => rows + values.length, 0)).toBe(365_558);
    expect(corpus.series.reduce((windows, one) => windows + one.windows.length, 0)).toBe(116);
    expect(corpus.series.every(({ values }) => values.every(Number.isFinite))).toBe(true);
  });

  test.each(FIXTURES)(
    'reproduces the published %s to three digits: our scores can be set beside theirs',
    (detector, ...published) => {
      const scores = readPublishedScores(folder!, detector, corpus);
      const ours = NAB_PROFILES.map(
        (name) => sweep(nabWorth(corpus, corpus.profiles[name]), scores).normalised,
      );
      expect(ours.map((score) => score.toFixed(3))).toEqual(published.map((score) => score.toFixed(3)));
    },
  );
});
