import { describe, expect, test } from 'vitest';
import { xidNamed } from '#shared/catalogue/xid.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { Counters } from '../../../../agent/collect/kernel-log/counters.ts';
import { KernelEvents } from '../../../../agent/collect/kernel-log/kernel-events.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';
import { SOURCE } from '../block-of.ts';
import { PackRun } from './pack-run.ts';

/** The newest of the catalogue, and one that it does not have. */
const CODES = [...Array.from({ length: 173 }, (_, i) => i + 1), 999];
/** Those whose line the agent decodes further: the bare line that is given here has nothing to decode. */
const RULES = {
  critical: 'gpu-xid-critical critical',
  error: 'gpu-xid-error warning',
  warning: 'gpu-xid-warning info',
};

/** The event of an agent that reads this line, of GPU 0. */
function eventOf(code: number, atMs: number): FleetEvent {
  const kernel = new KernelEvents({
    source: 'kernel-log',
    boot: 'b',
    verdicts: catalogueVerdicts,
    locate: () => ({ gpu: '0', uuid: 'GPU-0', model: 'NVIDIA H100 80GB HBM3' }),
    gpuOf: () => undefined,
    counters: new Counters(),
    late: false,
  });
  const text = `NVRM: Xid (PCI:0000:1b:00): ${code}, pid=1234, name=python, something`;
  kernel.line({ text, wallMs: atMs, bootMs: 60_000 }, atMs);
  return kernel.flush()[0]!;
}

// Lost without it: an Xid of the table that wakes nobody although its GPU is dead, or does for an application's bug.
describe('each Xid of the catalogue leads to its action', () => {
  test.each(CODES)('%i', (code) => {
    const { severity, action } = xidNamed(code);
    using run = new PackRun();
    run.event(SOURCE, eventOf(code, run.clock.ms));
    const rule = code === 154 ? 'gpu-recovery-asked-warning warning gpu=0' : undefined;
    const expected = severity === 'info' ? [] : [rule ?? `${RULES[severity]} gpu=0 ${code}`];
    expect(run.lines).toEqual(expected.map((line) => `${line} firing`));
    for (const told of run.told) {
      expect(told.action).toBe(action);
      if (code !== 154 && severity !== 'critical') expect(told.description).toContain(`: ${action}.`);
    }
    run.pass(3_610_000);
    expect(run.lines).toEqual(expected);
  });
});

test('a site that judges an Xid otherwise is followed', () => {
  using run = new PackRun();
  const event = eventOf(94, run.clock.ms);
  const attributes = { ...event.attributes, severity: 'critical', action: 'drain the node' };
  run.event(SOURCE, { ...event, attributes });
  expect(run.lines).toEqual(['gpu-xid-critical critical gpu=0 94 firing']);
  expect(run.told[0]!.action).toBe('drain the node');
});
