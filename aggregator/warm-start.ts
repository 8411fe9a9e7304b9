import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AggregatorConfig } from './config.ts';
import type { RestoredGpu } from './health/states/health-snapshot.ts';
import {
  parseWarmStart,
  WARM_START_WINDOWS,
  type WarmGpu,
  type WarmStartQueries,
  type WarmStartWindow,
  warmStartQueries,
} from './health/states/warm-start.ts';
import { StoreAccess } from './store/store-access.ts';
import { StoreEndpoint } from './store/store-endpoint.ts';
import { readUrlOf } from './store/store-link.ts';

export interface WarmStartOptions {
  /** Undefined where there is no store. */
  readonly store: AggregatorConfig['store'];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** For all questions together; 5 s by default. */
  readonly timeoutMs?: number;
  /** Longest answer to one question; 64 MiB by default, about 280,000 GPUs. */
  readonly maxBytes?: number;
}

/** A start waits no longer for what it can do without. Own judgement. */
const TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 64 * 2 ** 20;

/**
 * What the store knows of the GPUs' states, for a start without a snapshot. `thorough`: also of those that nobody
 * has written about for longer than a quarter of an hour, up to a day. Never rejects and takes 5 s at most: what did
 * not come is logged and counted, and those GPUs start anew.
 */
export async function readStoredHealth(options: WarmStartOptions, thorough: boolean): Promise<WarmGpu[]> {
  const { store, logger, registry, clock } = options;
  if (!store) return [];
  const results = counter(registry, {
    name: 'gpufleet_health_warm_start_total',
    help: 'Questions to the store about states of GPUs at the start, by result.',
    labelNames: ['result'],
  });
  const readUrl = readUrlOf(store.url, store.read_url);
  if (readUrl === undefined) {
    results.inc({ result: 'unreadable' });
    logger.warn('the store has no read_url: GPUs without a snapshot start anew');
    return [];
  }
  let gpus: WarmGpu[] = [];
  try {
    await using reader = readerOf(options, readUrl);
    const signal = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
    // The short window first: a large fleet's day takes longer than there is time.
    for (const window of thorough ? WARM_START_WINDOWS : WARM_START_WINDOWS.slice(0, 1)) {
      gpus = parseWarmStart(await answersOf(reader, options, window, signal), clock.now());
      results.inc({ result: 'answered' });
    }
  } catch (error) {
    results.inc({ result: 'failed' });
    logger.warn(
      { cause: describeError(error), gpus: gpus.length },
      'cannot read all health from the store: GPUs without a snapshot start anew',
    );
  }
  return gpus;
}

/**
 * Snapshots, and of the store what they do not have. Where both know a GPU, the snapshot knows more; but a state in
 * the store that is newer and another one was written by somebody else, who had the GPU meanwhile, or by the process
 * before this one in the last moments that it had no time to save.
 */
export function withStoredHealth(
  saved: readonly RestoredGpu[],
  stored: readonly WarmGpu[],
  nowMs: number,
): RestoredGpu[] {
  const all = new Map(saved.map((gpu) => [gpu.uuid, gpu]));
  for (const { uuid, machine, atMs } of stored) {
    const known = all.get(uuid);
    if (known === undefined) all.set(uuid, { uuid, machine, record: {}, savedMs: Math.min(atMs, nowMs) });
    else if (atMs > known.savedMs && machine.state !== known.machine.state)
      all.set(uuid, { ...known, machine, savedMs: atMs });
  }
  return [...all.values()];
}

function readerOf(
  { store, clock, timeoutMs = TIMEOUT_MS }: WarmStartOptions,
  readUrl: string,
): StoreEndpoint {
  return new StoreEndpoint({
    url: readUrl,
    connections: 3,
    timeoutMs,
    access: new StoreAccess(store!, () => clock.monotonic()),
    otherHost: new URL(readUrl).host !== new URL(store!.url).host,
  });
}

async function answersOf(
  reader: StoreEndpoint,
  options: WarmStartOptions,
  window: WarmStartWindow,
  signal: AbortSignal,
): Promise<Record<keyof WarmStartQueries, unknown>> {
  const { score, state, atSeconds } = warmStartQueries(window);
  const ask = (query: string): Promise<unknown> => askStore(reader, query, options, signal);
  const [scores, states, times] = await Promise.all([ask(score), ask(state), ask(atSeconds)]);
  return { score: scores, state: states, atSeconds: times };
}

/** Throws `unavailable` where the store does not answer in time, with too much, or with anything but JSON. */
async function askStore(
  reader: StoreEndpoint,
  query: string,
  { timeoutMs = TIMEOUT_MS, maxBytes = MAX_ANSWER_BYTES }: WarmStartOptions,
  signal: AbortSignal,
): Promise<unknown> {
  // Without `nocache` VictoriaMetrics answers as of 30 s ago. It also gives up when we do.
  const form = new URLSearchParams({ query, nocache: '1', timeout: `${timeoutMs}ms` });
  const { status, text } = await reader.request({
    method: 'POST',
    path: '/api/v1/query',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from(form.toString()),
    maxBytes,
    signal,
  });
  if (status !== 200)
    throw new FleetError('unavailable', `Cannot read health from the store: ${status} ${text.slice(0, 300)}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FleetError('unavailable', 'Cannot read health from the store: the answer is no JSON', {
      cause,
    });
  }
}
