/**
 * The agent under test: the product's Agent, with the oracle's source for collectors and a clock that can be
 * stepped. Takes its specification as JSON in its one argument, and is steered over a Unix socket, which no
 * fault of the network touches.
 */
import { rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { credentials } from '@grpc/grpc-js';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { runMain } from '#shared/lifecycle/run-main.ts';
import { createLogger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import { type Clock, systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { Agent } from '../../agent/agent.ts';
import type { Collector, Reading } from '../../agent/collect/collector.ts';
import { dictionaryOf, eventOf, GROUPS, type OracleGroup, sampleAt, tickNumber } from './oracle-source.ts';
import { Witness } from './witness.ts';

export interface AgentSpec {
  readonly seed: number;
  readonly cluster: string;
  readonly node: string;
  readonly machineId: string;
  /** Counts the starts of this node from 1. */
  readonly start: number;
  readonly directory: string;
  readonly aggregator: { readonly host: string; readonly port: number };
  readonly witnessFile: string;
  readonly socket: string;
  readonly clockOffsetMs: number;
  readonly maxBytes: number;
}

const spec = JSON.parse(process.argv[2] ?? '{}') as AgentSpec;

let offsetMs = spec.clockOffsetMs;
let lastNowMs = 0;
let frozen = false;
const clock: Clock = {
  now() {
    lastNowMs = systemClock.now() + offsetMs;
    return lastNowMs;
  },
  monotonic: () => systemClock.monotonic(),
};
const witness = new Witness(spec.witnessFile);
let agent: Agent | undefined;

/** `collect` is called right after the scheduler has read the clock, and again only when the record has settled. */
function witnessedCollector(group: OracleGroup): Collector {
  let count = 0;
  let open: number | undefined;
  const settle = (): void => {
    if (open === undefined) return;
    const isOpen = (tick: Tick): boolean => tick.dictionary.group === group.name && tick.values[0] === open;
    const recorded = [...(agent?.latest ?? [])].find(isOpen);
    if (recorded) witness.recorded(group.name, open, recorded.timestampMs);
    else witness.forgotten(group.name, open);
    open = undefined;
  };
  return {
    name: group.name,
    intervalMs: group.intervalMs,
    rank: 50,
    holdsDevice: false,
    describe: () => 'a test',
    async collect(): Promise<Reading> {
      const beganMs = lastNowMs;
      settle();
      if (frozen)
        throw new FleetError('unavailable', 'Cannot read the source: it is frozen for the comparison');
      const n = tickNumber(spec.start, ++count);
      const event = eventOf(spec.node, group.name, n);
      const reading = readingOf(group.name, n, beganMs, event);
      witness.produced(group.name, n, beganMs, event);
      open = n;
      return reading;
    },
    async [Symbol.asyncDispose]() {},
  };
}

function readingOf(group: string, n: number, beganMs: number, event: string | undefined): Reading {
  const { dictionary, slots } = dictionaryOf(group, n);
  const values = new Float64Array(slots.length);
  const states = new Uint8Array(slots.length);
  slots.forEach((slot, index) => {
    const value = sampleAt(spec.seed, spec.node, group, slot, n);
    if (value === undefined) states[index] = SlotState.Absent;
    else values[index] = value;
  });
  const events =
    event === undefined
      ? []
      : [
          {
            type: 'oracle',
            timestampMs: beganMs,
            gpu: '',
            gpuUuid: '',
            text: `Event ${event}`,
            attributes: { id: event },
          },
        ];
  return { dictionary, timestampMs: 0, values, states, events, rejected: new Map() };
}

await runMain(process, async (signal) => {
  await using opened = await Agent.open({
    config: {
      cluster: spec.cluster,
      external_labels: {},
      aggregators: [spec.aggregator],
      buffer: { max_age: 86_400_000, max_bytes: spec.maxBytes, fsync: 'tick' },
    },
    node: spec.node,
    directory: spec.directory,
    machineId: spec.machineId,
    bootId: `${spec.machineId}-boot`,
    version: '0.0.0-oracle',
    credentials: credentials.createInsecure(),
    token: async () => undefined,
    collectors: () => GROUPS.map(witnessedCollector),
    clock,
    random: Math.random,
    logger: createLogger(spec.node, 'info'),
  });
  agent = opened;
  rmSync(spec.socket, { force: true });
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://agent');
    if (url.pathname === '/clock') offsetMs = Number(url.searchParams.get('offset_ms'));
    if (url.pathname === '/freeze') frozen = true;
    void opened.registry.metrics().then((text) => response.end(text));
  }).listen(spec.socket);
  await opened.run(signal);
  server.close();
});
