import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { HealthEngine, healthStateName } from '../../../aggregator/health/health-engine.ts';
import { AmdNode } from '../../agent/collect/amd/sysfs/amd-node.ts';
import { textCard, writeCard } from '../../agent/collect/amd/sysfs/sysfs-tree.ts';
import { ScrapedNode } from '../../agent/collect/nvidia/dcgm-exporter/scraped-node.ts';
import { SmiNode } from '../../agent/collect/nvidia/nvidia-smi/smi-node.ts';
import { sharedData } from '../../support/data.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, SOURCE, series } from '../alerts/block-of.ts';

type Reading = Tick & { readonly dictionary: Dictionary };

/** What the state of each GPU is after two minutes of the same reading each second. */
function settledOn(...readings: readonly Reading[]) {
  const clock = new ManualClock();
  const engine = new HealthEngine({ clock, registry: createRegistry() });
  for (let second = 0; second <= 120; second++) {
    for (const { dictionary, values, states } of readings)
      engine.evaluate({ source: SOURCE, live: true, dictionary, timestampMs: clock.ms, values, states });
    engine.advance();
    clock.ms += 1_000;
  }
  clock.ms -= 1_000;
  return [...engine.scores()].map(({ uuid, state, coverage, score, model }) => ({
    uuid,
    model,
    score,
    low: engine
      .detailOf(uuid)!
      .contributions.map(({ signal }) => signal)
      .join(),
    state: healthStateName(state),
    coverage: Number(coverage.toFixed(2)),
  }));
}

/** The second T4 of its capture gives neither temperature nor power: nothing is known of it, and it says so. */
const WITHOUT_VITALS = 'GPU-9ef1b6d0-3643-5dd7-b823-c0ec20dcf2d5';

const folder = sharedData('samples');

// Lost without it: a fleet that runs what everybody runs, of which every GPU is shown as unknown for ever.
describe.skipIf(folder === undefined)('a node has a state with', () => {
  it.each([
    'dcgm-exporter/8xh100_k8s-pods_a.metrics',
    'dcgm-exporter/8xh100_k8s-pods_b.metrics',
    'dcgm-exporter/t4-a10g_datadog.metrics',
  ])('dcgm-exporter as it is shipped: %s', async (name) => {
    await using node = await ScrapedNode.start();
    const gpus = settledOn(await node.scrape(readFileSync(`${folder}/${name}`, 'utf8')));
    expect(gpus.length).toBeGreaterThan(0);
    expect(gpus.filter(({ uuid, state }) => state === 'unknown' && uuid !== WITHOUT_VITALS)).toEqual([]);
  });

  it.each([
    ['csv', 'nvidia-smi/query-gpu-csv/h100-80gb-hbm3_590.48.01_load.csv'],
    ['csv', 'nvidia-smi/query-gpu-csv/rtx4080s_595.71.05_load.csv'],
    ['csv', 'nvidia-smi/query-gpu-csv/h200-mig_590.48.01_load.csv'],
    ['xml', 'nvidia-smi/xml/a100-sxm4-v12.xml'],
    ['xml', 'nvidia-smi/xml/a10g.xml'],
    ['xml', 'nvidia-smi/xml/gtx-1070-ti.xml'],
    ['xml', 'nvidia-smi/xml/quadro-p2000-v12.xml'],
    ['xml', 'nvidia-smi/xml/pro-6000-maxq-blackwell-v13.xml'],
  ] as const)('nvidia-smi alone: %s %s', async (format, name) => {
    await using node = new SmiNode(format);
    const gpus = settledOn(await node.read(readFileSync(`${folder}/${name}`)));
    expect(gpus.length).toBeGreaterThan(0);
    expect(gpus.filter(({ state }) => state === 'unknown')).toEqual([]);
  });
});

it('a node with amdgpu in sysfs alone has a state', async () => {
  await using node = new AmdNode();
  await writeCard(node.sys, 'card0', textCard({ pci: '0000:0c:00.0', uniqueId: '2f048617326b1ea' }));
  const [metrics] = settledOn(await node.read());
  expect(metrics).toMatchObject({ state: 'healthy', score: 100 });
  const ras = await node.read(node.ras);
  // The card of this fixture has uncorrected errors and pages that wait for their retirement.
  const [both] = settledOn(await node.read(), ras);
  expect(both!.state).not.toBe('unknown');
});

// Lost without it: an alert for each GPU at each restart of an aggregator.
it('a GPU whose sources come one after another keeps the state of before a restart meanwhile', () => {
  const clock = new ManualClock();
  const told: string[] = [];
  const engine = new HealthEngine({
    clock,
    registry: createRegistry(),
    onTransition: (_, { from, to }) => told.push(`${healthStateName(from)} to ${healthStateName(to)}`),
  });
  engine.restore([{ uuid: 'GPU-0', machine: { state: HealthState.HEALTHY }, record: {} }]);
  const errors = dictionaryOf([
    series('gpu_ecc_errors_total', gpuLabels(0, { type: 'uncorrected', scope: 'volatile' })),
  ]);
  const gauges = dictionaryOf([series('gpu_power_watts', gpuLabels(0))]);
  const reasons = dictionaryOf([
    series('gpu_clock_event_reasons', gpuLabels(0)),
    series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
  ]);
  engine.evaluate(blockOf(errors, clock.ms, [0]));
  engine.advance();
  clock.ms += 1_000;
  engine.evaluate(blockOf(gauges, clock.ms, [300]));
  engine.advance();
  for (let second = 0; second < 120; second++) {
    clock.ms += 1_000;
    engine.evaluate(blockOf(errors, clock.ms, [0]));
    engine.evaluate(blockOf(gauges, clock.ms, [300]));
    engine.evaluate(blockOf(reasons, clock.ms, [0, 50]));
  }
  expect(told).toEqual([]);
  // Of which most was known, and now is not: no state that pretends to be one.
  for (let second = 0; second < 10; second++) {
    clock.ms += 1_000;
    engine.evaluate(blockOf(gauges, clock.ms, [300]));
  }
  expect(told).toEqual(['healthy to unknown']);
});

it('a GPU of which little is known is critical at once by what makes it so', () => {
  const clock = new ManualClock();
  const engine = new HealthEngine({ clock, registry: createRegistry() });
  const few = dictionaryOf([
    series('gpu_power_watts', gpuLabels(0)),
    series('gpu_row_remap_failed', gpuLabels(0)),
  ]);
  engine.evaluate(blockOf(few, clock.ms, [300, 1]));
  expect(engine.scoreOf('GPU-0')!.state).toBe(HealthState.CRITICAL);
});
