import { describe, expect, it } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { blockOf, dictionaryOf, gpuLabels, SOURCE, START_MS, series } from './block-of.ts';
import { engineWith } from './engine-of.ts';

const ERRORS = dictionaryOf([series('gpu_ecc_errors_total', gpuLabels(0))], 60_000);
const growing = (limits: string, window = 'increase: 10m') => `rules:
  - name: ecc
    summary: ECC errors
    metric: gpu_ecc_errors_total
    ${window}
    severities: [${limits}]
`;
const WARNING = '{ severity: warning, above: 2 }';

/** An engine and the changes by minute of one value a minute; undefined where nothing came. */
function counted(rules: string) {
  const made = engineWith(rules);
  const count = (values: readonly (number | undefined)[], from = 0, dictionary = ERRORS, source = SOURCE) =>
    values.flatMap((value, index) => {
      const minute = from + index;
      made.clock.ms = START_MS + minute * 60_000;
      if (value !== undefined)
        made.engine.evaluate(
          blockOf(dictionary, made.clock.ms, [value, 1].slice(0, dictionary.series.length), { source }),
        );
      return made.news().map((change) => `${change}@${minute}`);
    });
  return { ...made, count };
}

describe('a rule on the growth of a counter', () => {
  it.each([
    [
      'fires above its limit and resolves when the growth has left the window',
      [5, 6, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],
      ['fired@2', 'resolved@11'],
    ],
    ['does not fire for what was counted before it looked', [900, 900, 901, 902], []],
    ['does not fire for a reset', [900, 0, 1, 2], []],
    ['counts on after a reset', [900, 0, 3], ['fired@2']],
    ['counts what grew during a short gap', [1, undefined, undefined, 4], ['fired@3']],
    ['does not invent growth over a long one', [1, ...new Array(10).fill(undefined), 90, 91], []],
  ])('%s', (_, values, expected) => {
    expect(counted(growing(WARNING)).count(values)).toEqual(expected);
  });

  it('says by how much within what', () => {
    const { engine, count } = counted(growing(WARNING));
    count([0, 3]);
    expect([...engine.alerts()][0]!.summary).toBe(
      'ECC errors grew by 3 within 10 min, above 2, on GPU 0 of gpu-07.rack3',
    );
  });

  it('compares a rate with its limit for each second of the window', () => {
    const { engine, count } = counted(growing('{ severity: warning, above: 0.5 }', 'rate: 5m'));
    // 149, then 151 in five minutes: 0.4967/s, then 0.5033/s.
    expect(count([0, 149, 151])).toEqual(['fired@2']);
    expect([...engine.alerts()][0]!.summary).toBe(
      'ECC errors is 0.503333/s within 5 min, above 0.5/s, on GPU 0 of gpu-07.rack3',
    );
  });

  // A stalled job: its counter of work stands still. Just after a start nothing is known of the last ten minutes.
  it('below a limit waits for a whole window', () => {
    const { count } = counted(growing('{ severity: warning, below: 5 }'));
    expect(count([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).toEqual(['fired@10']);
  });

  it('goes on firing after a restart until a whole window says that it is over', () => {
    const rules = growing(`${WARNING}, { severity: critical, above: 5 }`);
    const first = counted(rules);
    first.count([0, 9]);
    const second = counted(rules);
    second.engine.restore(first.engine.alerts());
    // Three more are a warning by themselves: of the six before nothing is known any more.
    expect(second.count([9, 9, 12, 12, 12, 12, 12, 12, 12, 12, 12], 2)).toEqual(['severity@12']);
    expect([...second.engine.alerts()]).toMatchObject([
      { state: AlertState.FIRING, severity: Severity.WARNING },
    ]);
    expect(second.count([12, 12], 13)).toEqual(['resolved@14']);
  });

  it('counts once what was counted under another dictionary that came in between', () => {
    const { count } = counted(growing('{ severity: warning, above: 3 }'));
    const more = dictionaryOf([...ERRORS.series, series('gpu_power_watts', gpuLabels(0))], 60_000);
    const stream = { ...SOURCE };
    count([1, 2], 0, ERRORS, stream);
    count([4], 2, more, stream);
    expect(count([4, 4], 3, ERRORS, stream)).toEqual([]);
    expect(count([5], 5, ERRORS, stream)).toEqual(['fired@5']);
  });

  it('sees what was counted while the agent was away, over another stream and another dictionary', () => {
    const { count } = counted(growing(WARNING));
    count([1]);
    const more = dictionaryOf([...ERRORS.series, series('gpu_power_watts', gpuLabels(0))], 60_000);
    expect(count([4], 1, more, { ...SOURCE })).toEqual(['fired@1']);
  });
});
