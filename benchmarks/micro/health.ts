import { readFileSync } from 'node:fs';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { createSimulatedCollector } from '../../agent/collect/simulated/collector.ts';
import { AlertEngine } from '../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../aggregator/alerts/rules/rules-file.ts';
import { DetectionEngine } from '../../aggregator/health/detect/detection-engine.ts';
import { HealthEngine } from '../../aggregator/health/health-engine.ts';
import { heapAfter } from '../../test/support/heap.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { median } from '../report.ts';

const RULES = new URL('../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);
/** Nodes that are simulated; the others show what one of these does. */
const TEMPLATES = 8;
const INTERVAL_MS = 30_000;
const START_MS = 1_767_225_600_000;
/** Ticks until detectors have an opinion (an hour of samples), and those that are timed. */
const LEARNING_TICKS = 130;
const TIMED_TICKS = 8;
/** 2,600 nodes of six GPUs: 390 series each, a million in all. */
const SERIES_NODES = 2_600;
const SERIES_GPUS = 6;
/** 12,500 nodes of eight GPUs, each scored every ten seconds. */
const SCORED_NODES = 12_500;
const SCORED_GPUS = 8;
const SCORE_INTERVAL_MS = 10_000;
const SCORED_ROUNDS = 4;

/** What the detectors and rules cost for each sample, and the score for each GPU, on one thread. */
export const health: BenchCase = {
  name: 'health',
  description:
    'detectors and shipped alert rules over a million series in scrape order; 100,000 GPUs scored every 10 s',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const nodes = options.tiny ? 4 : SERIES_NODES;
    const templates = await templatesOf(options, SERIES_GPUS, LEARNING_TICKS + TIMED_TICKS);
    const watched = await watch(templates, nodes, options);
    return { ...watched, ...(await score(options)) };
  },
};

/** A simulated node, as recorded: its dictionary without UUIDs, so that each node that shows it has GPUs of its own. */
interface Template {
  readonly dictionary: Dictionary;
  readonly rows: readonly Float64Array[];
  readonly states: readonly Uint8Array[];
}

/** Time that is set. */
class BenchClock implements Clock {
  ms = START_MS;

  now(): number {
    return this.ms;
  }

  monotonic(): number {
    return this.ms - START_MS;
  }
}

async function templatesOf({ seed }: BenchOptions, gpus: number, ticks: number): Promise<Template[]> {
  const templates: Template[] = [];
  for (let i = 0; i < TEMPLATES; i++) {
    const clock = new BenchClock();
    await using simulated = createSimulatedCollector({
      node: `bench-${i}`,
      gpus,
      seed,
      intervalMs: INTERVAL_MS,
      clock,
    });
    const rows: Float64Array[] = [];
    const states: Uint8Array[] = [];
    for (let tick = 0; tick < ticks; tick++) {
      const reading = await simulated.collect(AbortSignal.abort());
      rows.push(reading.values.slice());
      states.push(reading.states.slice());
      clock.ms += INTERVAL_MS;
    }
    templates.push({ dictionary: withoutUuids(simulated.dictionary), rows, states });
  }
  return templates;
}

function withoutUuids({ group, intervalMs, series }: Dictionary): Dictionary {
  return createDictionary(
    group,
    intervalMs,
    series.map((one) => ({ ...one, labels: one.labels.filter(([name]) => name !== 'uuid') })),
  );
}

function sourcesOf(nodes: number): Source[] {
  return Array.from({ length: nodes }, (_, i) => ({ cluster: 'bench', node: `n-${i}`, externalLabels: [] }));
}

function blockOf(source: Source, template: Template, tick: number, timestampMs: number): Block {
  const { dictionary, rows, states } = template;
  const at = tick % rows.length;
  return { source, dictionary, timestampMs, values: rows[at]!, states: states[at]!, live: true };
}

async function watch(
  templates: readonly Template[],
  nodes: number,
  { log, tiny }: BenchOptions,
): Promise<BenchMetrics> {
  const clock = new BenchClock();
  const registry = createRegistry();
  const { rules } = parseRules(readFileSync(RULES, 'utf8'), 'the shipped rules');
  const sources = sourcesOf(nodes);
  // Twice: what the run before left in buffers is only freed after a first collection has seen it.
  await heapAfter(() => undefined);
  const before = await heapAfter(() => undefined);
  const detection = new DetectionEngine({ clock, registry });
  const alerts = new AlertEngine({ rules, clock, registry });
  let samples = 0;
  const play = (tick: number, look: (block: Block) => void): void => {
    samples = 0;
    clock.ms = START_MS + tick * INTERVAL_MS;
    for (let i = 0; i < nodes; i++) {
      const block = blockOf(sources[i]!, templates[i % templates.length]!, tick, clock.ms);
      look(block);
      samples += block.values.length;
    }
  };
  const after = await heapAfter(() => play(0, (block) => detection.evaluate(block)));
  const series = samples;
  for (let tick = 1; tick < LEARNING_TICKS; tick++) play(tick, (block) => detection.evaluate(block));
  play(LEARNING_TICKS - 1, (block) => alerts.evaluate(block));
  const detectors: number[] = [];
  const both: number[] = [];
  for (let tick = LEARNING_TICKS; tick < LEARNING_TICKS + TIMED_TICKS; tick++) {
    const began = performance.now();
    play(tick, (block) => detection.evaluate(block));
    const middle = performance.now();
    play(tick, (block) => alerts.evaluate(block));
    detectors.push(((middle - began) * 1e6) / samples);
    both.push(((performance.now() - began) * 1e6) / samples);
  }
  const open = [...detection.anomalies()].length;
  log(`health: ${series} series of ${nodes} nodes, ${open} incidents, ${rules.length} rules`);
  return {
    ns_per_sample: median(both),
    detector_ns_per_sample: median(detectors),
    // A few series take less than what the collector happens to free meanwhile.
    ...(!tiny && { detector_bytes_per_series: (after - before) / series }),
    series,
  };
}

async function score(options: BenchOptions): Promise<BenchMetrics> {
  const nodes = options.tiny ? 4 : SCORED_NODES;
  const templates = await templatesOf(options, SCORED_GPUS, SCORED_ROUNDS + 1);
  const clock = new BenchClock();
  const engine = new HealthEngine({ clock, registry: createRegistry() });
  const sources = sourcesOf(nodes);
  const milliseconds: number[] = [];
  let known = 0;
  for (let round = 0; round <= SCORED_ROUNDS; round++) {
    clock.ms = START_MS + round * SCORE_INTERVAL_MS;
    const began = performance.now();
    for (let i = 0; i < nodes; i++)
      engine.evaluate(blockOf(sources[i]!, templates[i % templates.length]!, round, clock.ms));
    known = 0;
    for (const { score } of engine.scores()) if (score >= 0) known++;
    // The first round makes the records.
    if (round > 0) milliseconds.push(performance.now() - began);
  }
  options.log(`health: ${known} GPUs scored`);
  const perGpu = median(milliseconds) / known;
  return {
    core_share_100k_gpus: (perGpu * 100_000) / SCORE_INTERVAL_MS,
    microseconds_per_gpu_score: perGpu * 1000,
  };
}
