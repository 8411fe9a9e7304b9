import { join } from 'node:path';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { RecordBuffer } from '../../agent/buffer/record-buffer.ts';
import type { Trace } from '../trace.ts';
import { dictionaryOf } from './bench-nodes.ts';

export interface BacklogOptions {
  readonly nodes: readonly string[];
  readonly trace: Trace;
  readonly intervalMs: number;
  /** Ticks of each node, the last of them now. */
  readonly ticks: number;
}

/** Ticks that share an fsync: building it is not what is measured. */
const FLUSH_EVERY = 1000;
/** Nothing of it shall age out while it is drained. */
const MAX_AGE_MS = 7 * 86_400_000;
const MAX_BYTES = 2 ** 34;

/** Fills `directory`/<node> with the buffer that an agent has that ran for so many ticks without an aggregator. */
export async function layBacklog(directory: string, options: BacklogOptions): Promise<void> {
  for (const node of options.nodes) await fill(join(directory, node), node, options);
}

async function fill(
  directory: string,
  node: string,
  { trace, intervalMs, ticks }: BacklogOptions,
): Promise<void> {
  const dictionary = dictionaryOf(node, { ...trace.dictionary, intervalMs });
  const states = new Uint8Array(dictionary.series.length);
  const startMs = Math.floor(Date.now() / intervalMs) * intervalMs - ticks * intervalMs;
  await using buffer = await RecordBuffer.open({
    directory,
    machineId: node,
    maxAgeMs: MAX_AGE_MS,
    maxBytes: MAX_BYTES,
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
  });
  for (let i = 0; i < ticks; i++) {
    const values = trace.rows[i % trace.rows.length]!;
    const { stored } = buffer.appendTick({
      dictionary,
      timestampMs: startMs + i * intervalMs,
      values,
      states,
    });
    if (i % FLUSH_EVERY === FLUSH_EVERY - 1 || i === ticks - 1) await stored;
  }
  // As an agent does every few seconds.
  while (await buffer.compact());
}
