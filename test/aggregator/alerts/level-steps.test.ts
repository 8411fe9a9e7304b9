import { timestampMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it, vi } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { blockOf, dictionaryOf, START_MS } from './block-of.ts';
import { engineWith, HEAT, hot } from './engine-of.ts';

// Warning above 90, critical above 95; one value a second.
describe('levels', () => {
  it.each([
    ['clear: 2 ends at 2 back, not before', 'clear: 2', [91, 89, 88], ['fired@0', 'resolved@2']],
    ['for fires with the sample that makes it whole', 'for: 3s', [91, 91, 91, 91], ['pending@0', 'fired@3']],
    [
      'for begins anew with each fall',
      'for: 2s',
      [91, 91, 90, 91, 91],
      ['pending@0', 'withdrawn@2', 'pending@3'],
    ],
    ['each level has its own for', 'for: 2s', [91, 96, 96, 96], ['pending@0', 'fired@2', 'severity@3']],
    ['keep_firing_for holds on', 'keep_firing_for: 3s', [91, 60, 60, 60, 60], ['fired@0', 'resolved@4']],
    [
      'keep_firing_for: a condition that comes back meanwhile was never gone',
      'keep_firing_for: 3s',
      [91, 60, 60, 91, 60, 60, 60, 60],
      ['fired@0', 'resolved@7'],
    ],
    [
      'keep_firing_for: back means beyond the limit, not within the margin',
      'keep_firing_for: 3s\n    clear: 5',
      [91, 60, 88, 88, 88],
      ['fired@0', 'resolved@4'],
    ],
    [
      'keep_firing_for keeps the severity too',
      'keep_firing_for: 2s',
      [96, 91, 91, 91, 60, 60, 60],
      ['fired@0', 'severity@3', 'resolved@6'],
    ],
    [
      'for and keep_firing_for together: a flapping GPU is one alert',
      'for: 2s\n    keep_firing_for: 3s',
      [91, 91, 91, 60, 91, 60, 91, 60, 60, 60, 60],
      ['pending@0', 'fired@2', 'resolved@10'],
    ],
  ])('%s', (_, settings, values, expected) => {
    const { heat, news } = engineWith(hot(settings));
    const changes = values.flatMap((value, second) => {
      heat(second, [value]);
      return news().map((change) => `${change}@${second}`);
    });
    expect(changes).toEqual(expected);
  });

  // Of a source that is read each minute, two minutes back are no gap: `for` would begin in the future.
  it('count anew when the clock of the node was set back', () => {
    const { engine, news } = engineWith(hot('for: 2m'));
    const slow = dictionaryOf(HEAT.series, 60_000);
    for (const minute of [0, -2, -1, 0]) engine.evaluate(blockOf(slow, START_MS + minute * 60_000, [91]));
    expect(news()).toEqual(['pending', 'fired']);
  });

  it('that fire on count anew after a gap: nobody saw that the condition stayed away', () => {
    const { heat, news } = engineWith(hot('keep_firing_for: 5s'));
    heat(0, [91, 60, 60]);
    heat(100, [60, 60, 60, 60, 60]);
    expect(news()).toEqual(['fired']);
    heat(105, [60]);
    expect(news()).toEqual(['resolved']);
  });

  it('that fire on resolve with the time of the sample that ended it', () => {
    const { engine, heat } = engineWith(hot('keep_firing_for: 2s'));
    heat(0, [91, 60, 60, 60]);
    const [alert] = [...engine.alerts()];
    expect(timestampMs(alert!.resolvedAt!)).toBe(START_MS + 3000);
  });

  // A restart within keep_firing_for must not end the alert early, nor leave it for ever.
  it('that fire on over a restart count anew', () => {
    const first = engineWith(hot('keep_firing_for: 3s'));
    first.heat(0, [91, 60, 60]);
    const second = engineWith(hot('keep_firing_for: 3s'));
    second.engine.restore(first.engine.alerts());
    second.heat(10, [60, 60, 60]);
    expect(second.news()).toEqual([]);
    second.heat(13, [60]);
    expect(second.news()).toEqual(['resolved']);
    expect([...second.engine.alerts()]).toMatchObject([{ state: AlertState.RESOLVED, transition: 2n }]);
  });

  it('that only fire on are not held: who resolves then is told if it comes back', () => {
    const { engine, clock, heat, told, news } = engineWith(hot('keep_firing_for: 60s'));
    heat(0, [91, 60]);
    expect(engine.resolve(told[0]!.alert.id, '', clock.ms)).toBe('resolved');
    heat(2, [60, 91]);
    expect(news()).toEqual(['fired', 'resolved', 'fired']);
  });
});

// After a storm every GPU of the fleet has an alert that resolved: none may cost more than one that never fired.
it('an alert that has resolved costs nothing at each sample, and fires again', () => {
  const { engine, clock, heat, news } = engineWith(hot('keep_firing_for: 1s'));
  heat(0, [92, 60, 60, 60]);
  expect(news()).toEqual(['fired', 'resolved']);
  const asked = vi.spyOn(clock, 'now');
  heat(4, [60, 60, 60]);
  expect(asked).not.toHaveBeenCalled();
  heat(7, [92, 60, 60]);
  expect(news()).toEqual(['fired', 'resolved']);
  heat(10, [92]);
  const [alert] = [...engine.alerts()];
  expect(engine.resolve(alert!.id, '', clock.ms)).toBe('suppressed');
  heat(11, [60, 60, 92]);
  expect(news()).toEqual(['fired', 'resolved', 'released', 'fired']);
});
