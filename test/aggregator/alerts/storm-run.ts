import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block } from '#shared/model/block.ts';
import { isTransition } from '../../../aggregator/alerts/alert-change.ts';
import { AlertEngine } from '../../../aggregator/alerts/alert-engine.ts';
import { createAlertBus } from '../../../aggregator/alerts/bus/alert-bus.ts';
import { decodeAlert } from '../../../aggregator/alerts/bus/alert-message.ts';
import { openAlertSpool } from '../../../aggregator/alerts/bus/alert-spool.ts';
import { EventSpool } from '../../../aggregator/alerts/bus/event-spool.ts';
import type { ThresholdRule } from '../../../aggregator/alerts/rules/rules.ts';
import { heapAfter } from '../../support/heap.ts';
import { startNats } from '../../support/nats-server.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, START_MS, series } from './block-of.ts';

const GPUS_PER_NODE = 8;
const LIMIT_C = 90;
/** Nodes whose ticks one turn of the event loop takes: as many frames as a busy socket poll brings. */
const NODES_PER_TURN = 50;

interface StormFigures {
  readonly gpus: number;
  /** Of a whole tick of the fleet, ms: quiet, while all alerts begin, while they are being published, while all end. */
  readonly tickMs: Readonly<Record<'quiet' | 'breach' | 'published' | 'over', number>>;
  /** From the breach until all transitions are in the stream. */
  readonly firedMs: number;
  readonly resolvedMs: number;
  /** Longest time that the event loop was held up, ms, from the breach to the last resolved transition. */
  readonly loopDelayMaxMs: number;
  readonly loopDelayP99Ms: number;
  readonly heapBeforeMb: number;
  /** Garbage included: collections are rare while there is room. */
  readonly heapPeakMb: number;
  /** What is left of it after a collection, while all alerts fire: engine, programs, what the publisher remembers. */
  readonly retainedMb: number;
  readonly rssPeakMb: number;
  readonly spoolWaitingPeak: number;
  /** From the stream: by alert, which transitions it holds, in order. */
  readonly recorded: ReadonlyMap<string, readonly string[]>;
  /** What the counters of drops say; empty where nothing was dropped. */
  readonly dropped: readonly string[];
  readonly firing: number;
}

const RULE: ThresholdRule = {
  kind: 'threshold',
  name: 'gpu-hot',
  summary: 'GPU temperature',
  annotations: {},
  addLabels: {},
  direction: 'above',
  clear: 2,
  keepFiringMs: 0,
  levels: [{ severity: Severity.CRITICAL, limit: LIMIT_C, forMs: 0 }],
  values: [{ metric: 'gpu_temperature_celsius', labels: {} }],
};

/**
 * A fleet whose GPUs all cross a threshold within one tick, and come back a few ticks later, through engine, bus, spool
 * and a real nats-server. Blocks come in turns of the event loop, as frames of many streams do.
 */
export async function runStorm(nodes: number): Promise<StormFigures> {
  await using nats = await startNats();
  await using temp = tempDir('storm');
  const registry = createRegistry();
  const clock = new ManualClock();
  const logger = silentLogger;
  await using spool = await openAlertSpool(join(temp.path, 'spool'), { logger, registry });
  await using events = await EventSpool.open(join(temp.path, 'events'), { logger, registry });
  await using bus = await createAlertBus({
    ...{ spool, events, clock, logger, registry, nats: { servers: [nats.url] } },
  });
  await until(() => bus.status().nats === 'connected', { timeoutMs: 20_000, what: 'connected' });
  const engine = new AlertEngine({ rules: [RULE], clock, registry });
  using _ = engine.subscribe((alert, change) => {
    if (isTransition(change)) bus.publish(alert);
  });

  const fleet = fleetOf(nodes);
  let tick = 0;
  /** One tick of all nodes; returns how long it took. */
  const give = async (celsius: number): Promise<number> => {
    const begin = performance.now();
    clock.ms = START_MS + tick++ * 1000;
    for (let i = 0; i < fleet.length; i++) {
      const block = fleet[i]!;
      block.values.fill(celsius);
      engine.evaluate({ ...block, timestampMs: clock.ms });
      if (i % NODES_PER_TURN === NODES_PER_TURN - 1) await turn();
    }
    return performance.now() - begin;
  };
  const gpus = nodes * GPUS_PER_NODE;
  await give(60);
  const quiet = await give(60);

  const quietMb = (await heapAfter(() => {})) / 1e6;
  const watch = watchProcess(() => bus.status().waiting);
  const breachAt = performance.now();
  const breach = await give(95);
  const published: number[] = [];
  const settled = async () => {
    while (bus.status().waiting > 0) {
      published.push(await give(tick % 2 === 0 ? 95 : 96));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return performance.now();
  };
  const firedMs = (await settled()) - breachAt;
  const firing = [...engine.alerts()].filter(({ state }) => state === AlertState.FIRING).length;
  const retainedMb = (await heapAfter(() => {})) / 1e6 - quietMb;
  const endAt = performance.now();
  const over = await give(60);
  while (bus.status().waiting > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const resolvedMs = performance.now() - endAt;
  const figures = watch();

  const dropped = (await registry.metrics())
    .split('\n')
    .filter((line) => /^gpufleet_alert\S*(dropped|refused)_total.* [1-9]/.test(line));
  const recorded = await read(nats.url);
  return {
    ...{ gpus, firedMs, resolvedMs, recorded, dropped, firing, retainedMb },
    tickMs: { quiet, breach, published: Math.max(0, ...published), over },
    ...figures,
  };
}

function fleetOf(nodes: number): Block[] {
  return Array.from({ length: nodes }, (_, n) => {
    const node = `gpu-${String(n).padStart(5, '0')}`;
    const all = Array.from({ length: GPUS_PER_NODE }, (_, gpu) =>
      series('gpu_temperature_celsius', gpuLabels(gpu, { uuid: `GPU-${node}-${gpu}` }), 'Cel'),
    );
    const source = { cluster: 'east', node, externalLabels: [] };
    return blockOf(dictionaryOf(all), START_MS, new Array<number>(GPUS_PER_NODE).fill(60), { source });
  });
}

/** Peaks of memory and of the delay of the event loop, until called. */
function watchProcess(waiting: () => number) {
  const before = process.memoryUsage().heapUsed;
  let heap = before;
  let rss = 0;
  let most = 0;
  const timer = setInterval(() => {
    const usage = process.memoryUsage();
    heap = Math.max(heap, usage.heapUsed);
    rss = Math.max(rss, usage.rss);
    most = Math.max(most, waiting());
  }, 20);
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  return () => {
    clearInterval(timer);
    delay.disable();
    return {
      loopDelayMaxMs: delay.max / 1e6,
      loopDelayP99Ms: delay.percentile(99) / 1e6,
      heapBeforeMb: before / 1e6,
      heapPeakMb: heap / 1e6,
      rssPeakMb: rss / 1e6,
      spoolWaitingPeak: most,
    };
  };
}

/** Reads the stream from its first message to its last. */
async function read(url: string): Promise<Map<string, string[]>> {
  const connection = await connect({ servers: url });
  const consumer = await jetstream(connection).consumers.get('GPUFLEET_ALERTS', {
    deliver_policy: DeliverPolicy.All,
  });
  const recorded = new Map<string, string[]>();
  const { state } = await (await jetstreamManager(connection)).streams.info('GPUFLEET_ALERTS');
  if (state.messages === 0) return recorded;
  const messages = await consumer.consume({ max_messages: 5_000 });
  for await (const message of messages) {
    const alert = decodeAlert(message.string())!;
    const said = recorded.get(alert.id) ?? [];
    said.push(`${alert.transition} ${message.headers!.get('Gpufleet-State')}`);
    recorded.set(alert.id, said);
    if (message.info.pending === 0) break;
  }
  await messages.close();
  await connection.close();
  return recorded;
}

/** One line of figures for people. */
export function describeStorm({ recorded, ...figures }: StormFigures): string {
  return JSON.stringify({ ...figures, recordedAlerts: recorded.size }, (_, value: unknown) =>
    typeof value === 'number' ? Math.round(value * 10) / 10 : value,
  );
}
