import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Tick } from '#shared/model/block.ts';
import { type Labels, labelOf } from '#shared/model/dictionary.ts';
import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import type { Collector, Reading } from '../collect/collector.ts';
import { createCollectors } from '../collect/registry.ts';
import type { Surroundings } from '../collect/source-kind.ts';
import type { AgentConfig } from '../config.ts';
import type { GateFacts } from '../control/gate-facts.ts';
import { GpuLedger } from '../control/gpu-ledger.ts';
import { renderMetrics } from '../expose/exposition.ts';
import { plain, type Terminal } from './terminal.ts';

/** A read may take this long, whatever the source's interval. */
const READ_TIMEOUT_MS = 30_000;
/** `up` and scrape_*: what a first read that only planned has. */
const OWN_SERIES = 3;

export interface CollectOptions {
  readonly config: AgentConfig;
  readonly surroundings: Surroundings;
  /** This source alone. */
  readonly source: string | undefined;
  readonly signal: AbortSignal;
}

/** What one source gave. */
interface Collected {
  readonly name: string;
  readonly what: string;
  /** Why it could not be read; '' where it could. */
  readonly problem: string;
  readonly tick: Tick | undefined;
}

export interface CollectOutput {
  readonly format: 'text' | 'openmetrics' | 'json';
  /** Also the series without a value, with the reason. */
  readonly all: boolean;
}

/** Reads each source and prints its series. Returns the exit code. */
export async function collectOnce(
  terminal: Terminal,
  options: CollectOptions,
  { format, all }: CollectOutput,
): Promise<number> {
  const collected = await readSources(options);
  const identity = identityOf(options.config);
  if (format === 'json') {
    terminal.write(`${JSON.stringify(collected.map((one) => jsonOf(one, identity, all)))}\n`);
  } else {
    const ticks = collected.flatMap(({ tick }) => (tick ? [tick] : []));
    const comments = collected.flatMap((one) => commentsOf(one, all)).join('');
    const text = await renderMetrics([{ ticks, identity }], undefined, format);
    // OpenMetrics allows no comments of ours.
    terminal.write(format === 'openmetrics' ? text : comments + text);
  }
  return collected.every(({ problem }) => problem === '') ? 0 : 1;
}

/** What the job gate asks for, read in this process: where no agent runs. */
export async function collectGateFacts(options: CollectOptions): Promise<GateFacts> {
  const { config, surroundings } = options;
  const ticks = (await readSources(options)).flatMap(({ tick }) => (tick ? [tick] : []));
  const ledger = new GpuLedger({
    facts: surroundings.facts,
    bootId: '',
    bootedMs: 0,
    expected: config.expected_gpus,
  });
  ledger.learn(ticks);
  return {
    now_ms: surroundings.clock.now(),
    expected_gpus: ledger.expected,
    paused_until_ms: null,
    aggregator_connected: false,
    gpus: ledger.gpus(ticks),
  };
}

async function readSources({ config, surroundings, source, signal }: CollectOptions): Promise<Collected[]> {
  const { collectors, found } = await createCollectors(config.collectors, surroundings);
  try {
    const chosen = collectors.filter(({ name }) => source === undefined || name === source);
    if (chosen.length === 0) {
      const there = collectors.map(({ name }) => name).join(', ') || 'none';
      const looked = found.map(
        ({ key, detection }) => `${key}: ${detection.found ? detection.what : detection.why}`,
      );
      throw new FleetError(
        'not_found',
        source === undefined
          ? `Cannot collect: this node has no source (${looked.join('; ')})`
          : `Cannot collect from ${source}: the sources here are ${there}`,
      );
    }
    return await Promise.all(chosen.map((collector) => readOne(collector, signal)));
  } finally {
    for (const collector of collectors) await collector[Symbol.asyncDispose]();
  }
}

async function readOne(collector: Collector, signal: AbortSignal): Promise<Collected> {
  const { name } = collector;
  try {
    const read = (): Promise<Reading> =>
      collector.collect(AbortSignal.any([signal, AbortSignal.timeout(READ_TIMEOUT_MS)]));
    let reading = await read();
    if (reading.problem === undefined && reading.dictionary.series.length <= OWN_SERIES)
      reading = await read();
    return { name, what: collector.describe(), problem: reading.problem ?? '', tick: reading };
  } catch (error) {
    return { name, what: collector.describe(), problem: describeError(error), tick: undefined };
  }
}

/** As the agent puts it on every series. */
function identityOf({ external_labels, cluster, node }: AgentConfig): Labels {
  return Object.entries({ ...external_labels, cluster, node }).sort(([a], [b]) => (a < b ? -1 : 1));
}

function jsonOf({ name, what, problem, tick }: Collected, identity: Labels, all: boolean): unknown {
  const series = tick?.dictionary.series.flatMap(({ name: metric, labels, kind, unit }, slot) => {
    const state = tick.states[slot]! as SlotState;
    const isPresent = state === SlotState.Present;
    if (!isPresent && !all) return [];
    return [
      {
        name: metric,
        labels: Object.fromEntries([...identity, ...labels]),
        kind,
        unit,
        value: isPresent ? finite(tick.values[slot]!) : null,
        state: SLOT_STATE_NAMES.get(state),
      },
    ];
  });
  return { source: name, what, problem, timestamp_ms: tick?.timestampMs ?? null, series: series ?? [] };
}

/** JSON has no infinity. */
function finite(value: number): number | string {
  return Number.isFinite(value) ? value : value > 0 ? '+Inf' : '-Inf';
}

/** `# source nvml: NVML 12.590, 8 GPUs` and, with all, `# absent gpu_fan_ratio{gpu="0"}: not_supported` */
function commentsOf({ name, what, problem, tick }: Collected, all: boolean): string[] {
  const head = `# source ${name}: ${plain(what)}${problem === '' ? '' : `; FAILED: ${plain(problem)}`}\n`;
  if (!all || !tick) return [head];
  const absent = tick.dictionary.series.flatMap(({ name: metric, labels }, slot) => {
    const state = tick.states[slot]! as SlotState;
    if (state === SlotState.Present) return [];
    const gpu = labelOf(labels, 'gpu');
    const shown = labels.filter(([label]) => gpu === undefined || (label !== 'uuid' && label !== 'model'));
    const text = shown.map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(',');
    return [`# absent ${metric}{${text}}: ${SLOT_STATE_NAMES.get(state)}\n`];
  });
  return [head, ...absent];
}
