import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Alert, AlertState, Resolution, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { AlertEngine } from '../../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../../aggregator/alerts/rules/rules-file.ts';
import { ManualClock, SOURCE } from './block-of.ts';

const SHIPPED = new URL('../../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);
const HOUR_MS = 3_600_000;

function engineOf() {
  const clock = new ManualClock();
  const { rules } = parseRules(readFileSync(SHIPPED, 'utf8'), 'the shipped rules');
  const engine = new AlertEngine({ rules, clock, registry: createRegistry() });
  const told: Alert[] = [];
  engine.subscribe((alert) => void told.push(alert));
  const lose = (reason: string, node = SOURCE.node): void => {
    const event: FleetEvent = {
      ...{ type: 'samples_lost', timestampMs: clock.now(), gpu: '', gpuUuid: '' },
      text: `40 samples lost (${reason}): aged out`,
      attributes: { reason, samples: '40' },
    };
    engine.event({ ...SOURCE, node }, event, false);
  };
  return { engine, clock, told, lose };
}

// A loss that only stands in a list is one that nobody looks at.
test('lost samples are one warning for each node and reason, which says how many and why', () => {
  const { told, lose } = engineOf();
  lose('trimmed');
  lose('trimmed');
  lose('run_vanished');
  lose('trimmed', 'b');
  expect(told.map(({ key, node }) => [key, node])).toEqual([
    ['trimmed', SOURCE.node],
    ['run_vanished', SOURCE.node],
    ['trimmed', 'b'],
  ]);
  expect(told[0]).toMatchObject({
    ...{ rule: 'samples-lost', state: AlertState.FIRING, severity: Severity.WARNING, gpu: '', gpuUuid: '' },
    labels: { reason: 'trimmed', samples: '40' },
    summary: `Samples lost on ${SOURCE.node}: 40 samples lost (trimmed): aged out`,
  });
});

test('the warning ends an hour after the last loss, and comes again with the next one', () => {
  const { engine, clock, told, lose } = engineOf();
  lose('trimmed');
  clock.ms += HOUR_MS - 1;
  lose('trimmed');
  clock.ms += HOUR_MS - 1;
  engine.advance(clock.ms);
  expect(told).toHaveLength(1);
  clock.ms += 1;
  engine.advance(clock.ms);
  expect(told.at(-1)).toMatchObject({ state: AlertState.RESOLVED, resolution: Resolution.EXPIRED });
  lose('trimmed');
  expect(told.at(-1)).toMatchObject({ state: AlertState.FIRING, transition: 3n });
});
