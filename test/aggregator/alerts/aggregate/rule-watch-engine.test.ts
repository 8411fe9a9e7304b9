import { describe, expect, it } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import { RuleWatch } from '../../../../aggregator/alerts/aggregate/rule-watch.ts';
import { AlertEngine } from '../../../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../../../aggregator/alerts/rules/rules-file.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, series } from '../block-of.ts';

const { rules } = parseRules(
  `
rules:
  - name: gpu-hot
    metric: gpu_temperature_celsius
    severities: [{ severity: warning, above: 90 }]
  - name: rack-hot
    aggregate: { count_of: gpu-hot, by: rack }
    severities: [{ severity: critical, above: 3 }]
    for: 30s
    keep_firing_for: 1m
  - name: rack-mean
    aggregate: { avg: gpu_temperature_celsius, by: rack }
    severities: [{ severity: warning, above: 80 }]
    clear: 5
  - name: temperature-absent
    absent: gpu_temperature_celsius
    severities: [{ severity: warning, above: 5m }]
`,
  'rules.yaml',
);

const SOURCE: Source = { cluster: 'east', node: 'n1', externalLabels: [] };
const DICTIONARY = dictionaryOf(
  Array.from({ length: 5 }, (_, gpu) => series('gpu_temperature_celsius', gpuLabels(gpu), 'Cel')),
);

/** An engine with a watch, and a node of five GPUs in rack r1. */
function watched(clock: ManualClock) {
  const registry = createRegistry();
  const engine = new AlertEngine({ rules, clock, registry });
  const open = () => {
    const watch = new RuleWatch({
      engine,
      groupsOf: () => ({ rack: ['r1'] }),
      connected: () => true,
      clock,
      registry: createRegistry(),
      warmUpMs: 0,
    });
    watch.setRules(rules);
    return watch;
  };
  const pass = (watch: RuleWatch, seconds: number, values: readonly (number | undefined)[]) => {
    for (let i = 0; i < seconds; i++) {
      clock.ms += 1000;
      const block = blockOf(DICTIONARY, clock.ms, values, { source: SOURCE });
      engine.evaluate(block);
      watch.evaluate(block);
      watch.advance(clock.ms);
      engine.advance(clock.ms);
    }
  };
  const of = (rule: string) => [...engine.alerts()].filter((alert) => alert.rule === rule);
  return { engine, open, pass, of };
}

describe('group and absent rules with the engine that keeps the alerts', () => {
  it('a rack alert waits its "for", is about the rack, and goes on for "keep_firing_for"', () => {
    const { open, pass, of } = watched(new ManualClock());
    const watch = open();
    pass(watch, 29, [95, 95, 95, 95, 50]);
    expect(of('rack-hot').map(({ state }) => state)).toEqual([AlertState.PENDING]);
    pass(watch, 3, [95, 95, 95, 95, 50]);
    const [alert] = of('rack-hot');
    expect(alert).toMatchObject({
      ...{
        state: AlertState.FIRING,
        cluster: 'east',
        node: '',
        gpu: '',
        key: 'rack=r1',
        value: 4,
        threshold: 3,
      },
    });
    expect(alert!.labels).toMatchObject({ rack: 'r1' });
    pass(watch, 50, [95, 50, 50, 50, 50]);
    expect(of('rack-hot')[0]!.state).toBe(AlertState.FIRING);
    pass(watch, 15, [95, 50, 50, 50, 50]);
    expect(of('rack-hot')[0]!.state).toBe(AlertState.RESOLVED);
  });

  it('a mean clears only its margin back, and resolves when its values are gone', () => {
    const clock = new ManualClock();
    const { open, pass, of } = watched(clock);
    const watch = open();
    pass(watch, 2, [85, 85, 85, 85, 85]);
    expect(of('rack-mean')[0]).toMatchObject({ state: AlertState.FIRING, value: 85 });
    pass(watch, 2, [77, 77, 77, 77, 77]);
    expect(of('rack-mean')[0]!.state).toBe(AlertState.FIRING);
    for (let i = 0; i < 70; i++) {
      clock.ms += 1000;
      watch.advance(clock.ms);
    }
    expect(of('rack-mean')[0]!.state).toBe(AlertState.RESOLVED);
  });

  it('an absent series fires for its GPU, and resolves when it is back', () => {
    const { open, pass, of } = watched(new ManualClock());
    const watch = open();
    pass(watch, 1, [50, 50, 50, 50, 50]);
    pass(watch, 305, [50, 50, 50, 50, undefined]);
    expect(of('temperature-absent')).toMatchObject([
      { state: AlertState.FIRING, node: 'n1', gpu: '4', gpuUuid: 'GPU-4', threshold: 300 },
    ]);
    pass(watch, 2, [50, 50, 50, 50, 50]);
    expect(of('temperature-absent')[0]!.state).toBe(AlertState.RESOLVED);
  });

  it('after a restart goes on with the same alerts, told once', () => {
    const clock = new ManualClock();
    const first = watched(clock);
    first.pass(first.open(), 40, [95, 95, 95, 95, 50]);
    const second = watched(clock);
    second.engine.restore(first.engine.alerts());
    const watch = second.open();
    let told = 0;
    second.engine.subscribe(() => void told++);
    second.pass(watch, 40, [95, 95, 95, 95, 50]);
    expect(second.of('rack-hot')[0]).toMatchObject({ state: AlertState.FIRING, transition: 1n });
    expect(told).toBe(0);
  });
});
