import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { AlertChange } from '../../../aggregator/alerts/alert-change.ts';
import { AlertEngine, type AlertEngineOptions } from '../../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../../aggregator/alerts/rules/rules-file.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, START_MS, series } from './block-of.ts';

/** One GPU's core temperature. */
export const HEAT: Dictionary = dictionaryOf([
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }), 'Cel'),
]);

/** A rule `hot` on it, warning above 90 and critical above 95, with further settings. */
export function hot(more = ''): string {
  return `rules:
  - name: hot
    summary: GPU temperature
    metric: gpu_temperature_celsius
    labels: { sensor: core }
    severities: [{ severity: warning, above: 90 }, { severity: critical, above: 95 }]
    ${more}
`;
}

export function rulesOf(text: string) {
  return parseRules(text, 'rules.yaml').rules;
}

/** An engine with those rules, its clock, and all that it told. */
export function engineWith(rules: string, more: Partial<AlertEngineOptions> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new AlertEngine({ rules: rulesOf(rules), clock, registry, ...more });
  const told: { change: AlertChange; alert: Alert }[] = [];
  engine.subscribe((alert, change) => void told.push({ change, alert }));
  return {
    ...{ engine, clock, registry, told },
    /** One value a second of `HEAT`, from second `from` on. */
    heat(from: number, values: readonly number[]): void {
      for (const [index, value] of values.entries()) {
        clock.ms = START_MS + (from + index) * 1000;
        engine.evaluate(blockOf(HEAT, clock.ms, [value]));
      }
    },
    /** What was told since the last call, as words. */
    news(): string[] {
      return told.splice(0).map(({ change }) => change);
    },
  };
}
