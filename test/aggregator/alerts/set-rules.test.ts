import { describe, expect, it } from 'vitest';
import { AlertState, Resolution, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { blockOf, dictionaryOf, gpuLabels, SOURCE, START_MS, series, xidEvent } from './block-of.ts';
import { engineWith, hot, rulesOf } from './engine-of.ts';

const FIVE_SECONDS = 'for: 5s';

describe('other rules', () => {
  it.each([
    ['the same', hot(), { added: [], changed: [], removed: [] }, [], [91], []],
    // 92 is above 90 and not above 93: the next sample says so.
    ['a higher limit', hot().replace('above: 90', 'above: 93'), { changed: ['hot'] }, [], [92], ['resolved']],
    [
      'a lower limit of the higher level',
      hot().replace('above: 95', 'above: 91'),
      { changed: ['hot'] },
      [],
      [92],
      ['severity'],
    ],
    ['another text', hot().replace('GPU temperature', 'Heat'), { changed: ['hot'] }, [], [92], []],
    ['a for', hot(FIVE_SECONDS), { changed: ['hot'] }, [], [92], []],
    [
      'a level less',
      hot().replace('{ severity: warning, above: 90 }, ', ''),
      { changed: ['hot'] },
      [],
      [92],
      ['resolved'],
    ],
    ['the rule removed', 'rules: []', { removed: ['hot'] }, ['resolved'], [92], []],
    [
      'the rule renamed',
      hot().replace('hot', 'heat'),
      { added: ['heat'], removed: ['hot'] },
      ['resolved'],
      [92],
      ['fired'],
    ],
    [
      'a rule of another kind under its name',
      'rules: [{name: hot, event: xid}]',
      { changed: ['hot'] },
      ['resolved'],
      [92],
      [],
    ],
  ])('%s', (_, text, diff, atOnce, values, then) => {
    const { engine, heat, news } = engineWith(hot());
    heat(0, [92]);
    const [before] = [...engine.alerts()];
    news();
    expect(engine.setRules(rulesOf(text))).toEqual({ added: [], changed: [], removed: [], ...diff });
    expect(news()).toEqual(atOnce);
    heat(1, values);
    expect(news()).toEqual(then);
    expect(engine.get(before!.id)).toBeDefined();
    expect(engine.rules().map(({ name }) => name)).toEqual(rulesOf(text).map(({ name }) => name));
  });

  it('say why the alert of a removed rule resolved, and leave it its texts', () => {
    const { engine, heat, told } = engineWith(hot('annotations: { description: "on {{ node }}" }'));
    heat(0, [92]);
    engine.setRules([]);
    expect(told.at(-1)!.alert).toMatchObject({
      ...{ state: AlertState.RESOLVED, resolution: Resolution.CLEARED, transition: 2n },
      summary: 'Its rule was removed: GPU temperature is 92 °C, above 90 °C, on GPU 0 of gpu-07.rack3',
      annotations: { description: `on ${SOURCE.node}` },
    });
  });

  it('leave it its texts over a restart too', () => {
    const before = engineWith(hot('annotations: { description: "on {{ node }}" }'));
    before.heat(0, [92]);
    const { engine, told } = engineWith('rules: []');
    engine.restore(before.engine.alerts());
    expect(told).toMatchObject([
      { change: 'resolved', alert: { annotations: { description: `on ${SOURCE.node}` } } },
    ]);
  });

  it('go on with what was pending, and withdraw what nothing judges any more', () => {
    const { engine, heat, news } = engineWith(hot(FIVE_SECONDS));
    heat(0, [91, 91, 91]);
    engine.setRules(rulesOf(hot('for: 4s')));
    heat(3, [91, 91]);
    expect(news()).toEqual(['pending', 'fired']);
    engine.setRules(rulesOf(hot(FIVE_SECONDS)));
    heat(5, [60, 91]);
    engine.setRules([]);
    expect(news()).toEqual(['resolved', 'pending', 'withdrawn']);
  });

  it('release a suppressed alert whose rule is gone: it must not be silent if the rule comes back', () => {
    const { engine, clock, heat, told, news } = engineWith(hot());
    heat(0, [92]);
    engine.resolve(told[0]!.alert.id, '', clock.ms);
    engine.setRules([]);
    engine.setRules(rulesOf(hot()));
    heat(1, [92]);
    expect(news()).toEqual(['fired', 'resolved', 'released', 'fired']);
  });

  it('with only a more severe level make it that, rather than ending what goes on', () => {
    const { engine, heat, news } = engineWith(hot());
    heat(0, [92]);
    engine.setRules(
      rulesOf(
        hot(FIVE_SECONDS).replace('{ severity: warning, above: 90 }, ', '').replace('above: 95', 'above: 90'),
      ),
    );
    heat(1, [92, 92]);
    expect(news()).toEqual(['fired', 'severity']);
  });

  // No sample would ever judge them again: they would fire, and hold a node out of service, for ever.
  it.each([
    ['looks at another metric', 'metric: gpu_power_watts'],
    ['looks at other models', 'metric: gpu_temperature_celsius\n    labels: { sensor: core, model: A100 }'],
    ['tells alerts apart by more labels', 'metric: gpu_temperature_celsius'],
  ])('resolve the alert of a rule that now %s', (_, value) => {
    const { engine, heat, told, news } = engineWith(hot());
    heat(0, [92]);
    news();
    const other = hot().replace('metric: gpu_temperature_celsius\n    labels: { sensor: core }', value);
    expect(engine.setRules(rulesOf(other))).toMatchObject({ changed: ['hot'] });
    expect(told).toMatchObject([
      {
        change: 'resolved',
        alert: { summary: expect.stringMatching(/^Its rule no longer looks at it: GPU temperature is 92/) },
      },
    ]);
  });

  it('resolve the alert of a series that the rule tells apart by fewer labels, also over a restart', () => {
    const free = hot().replace('labels: { sensor: core }', 'labels: {}');
    const before = engineWith(free);
    before.heat(0, [92]);
    expect([...before.engine.alerts()]).toMatchObject([{ key: 'sensor=core', state: AlertState.FIRING }]);
    const after = engineWith(hot());
    after.engine.restore(before.engine.alerts());
    before.news();
    before.engine.setRules(rulesOf(hot()));
    expect([before.news(), after.news()]).toEqual([['resolved'], ['resolved']]);
    before.heat(1, [92]);
    expect(before.told).toMatchObject([{ change: 'fired', alert: { key: '' } }]);
  });

  it('leave an alert that another series of its GPU judges now under its id', () => {
    const other = series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'memory' }), 'Cel');
    const { engine, heat, news } = engineWith(hot());
    heat(0, [92]);
    engine.setRules(rulesOf(hot().replace('sensor: core', 'sensor: memory, uuid: GPU-0')));
    engine.evaluate(blockOf(dictionaryOf([other]), START_MS + 1000, [60]));
    expect(news()).toEqual(['fired', 'resolved']);
  });

  it('with another severity or time of an event rule count for the alerts that fire', () => {
    const { engine, told } = engineWith('rules: [{name: x, event: xid, expires: 1h}]');
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    engine.setRules(rulesOf('rules: [{name: x, event: xid, severity: warning, expires: 10m}]'));
    expect(told.at(-1)).toMatchObject({
      change: 'severity',
      alert: { severity: Severity.WARNING, transition: 2n },
    });
    engine.advance(START_MS + 599_999);
    expect(told).toHaveLength(2);
    engine.advance(START_MS + 600_000);
    expect(told.at(-1)).toMatchObject({ change: 'resolved' });
  });

  it('are in force with the next sample of a stream that is open, and keep what is known of counters', () => {
    const rule = (limit: number) =>
      `rules: [{name: ecc, metric: gpu_ecc_errors_total, increase: 10m, severities: [{severity: critical, above: ${limit}}]}]`;
    const { engine, news } = engineWith(rule(9));
    const dictionary = dictionaryOf([series('gpu_ecc_errors_total', gpuLabels(0))]);
    for (const [second, value] of [
      [0, 1],
      [1, 6],
    ] as const) {
      engine.evaluate(blockOf(dictionary, START_MS + second * 1000, [value]));
    }
    engine.setRules(rulesOf(rule(4)));
    expect(news()).toEqual([]);
    engine.evaluate(blockOf(dictionary, START_MS + 2000, [6]));
    expect(news()).toEqual(['fired']);
  });

  it('find alerts under their ids after rules were away and came back', () => {
    const { engine, heat, told } = engineWith(hot());
    heat(0, [92]);
    engine.setRules([]);
    engine.setRules(rulesOf(hot()));
    heat(1, [92]);
    expect(told.map(({ alert }) => alert.transition)).toEqual([1n, 2n, 3n]);
    expect(new Set(told.map(({ alert }) => alert.id)).size).toBe(1);
  });
});
