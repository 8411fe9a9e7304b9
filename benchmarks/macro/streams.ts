import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../test/support/ports.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { residentBytes } from '../peers/process-usage.ts';
import type { PacedStreamsOptions } from './paced-streams.ts';
import { Program } from './program.ts';
import { startAggregator } from './servers.ts';
import { watchLoad } from './watch-load.ts';

const STREAMS = 10_000;
/** One GPU of the trace. */
const SERIES = 50;
/** The young generation is settled and the first scores are made. */
const WARM_UP_MS = 8_000;
const MEASURE_MS = 15_000;

/** The whole aggregator without a store, and very many small agents. */
export const streams: BenchCase = {
  name: 'streams',
  description: `${STREAMS} streams x ${SERIES} series, a frame a second, decoded, scored, put to the rules and acknowledged`,
  async run({ seed, tiny, dataDir, log }: BenchOptions): Promise<BenchMetrics> {
    if (!dataDir) log('streams: a synthetic one is used instead of the reference trace');
    const count = tiny ? 20 : STREAMS;
    await using dir = tempDir('bench-streams');
    const ports = { ingest: await freePort(), api: await freePort() };
    await using aggregator = await startAggregator({ directory: dir.path, ports });
    await sleep(tiny ? 0 : 2_000);
    const idleBytes = residentBytes(aggregator.pid);
    await using load = new Program(new URL('./paced-streams.ts', import.meta.url));
    const options: PacedStreamsOptions = {
      port: ports.ingest,
      streams: count,
      series: SERIES,
      intervalMs: tiny ? 100 : 1_000,
      ticks: 120,
      bench: { seed, tiny, dataDir },
    };
    await load.ask({ kind: 'start', options });
    await sleep(tiny ? 100 : WARM_UP_MS);
    const { seconds, cpu, ticks } = await watchLoad(load, [aggregator.pid], tiny ? 1_000 : MEASURE_MS, log);
    return {
      cores: cpu[0]! / seconds,
      rss_bytes_per_stream: (residentBytes(aggregator.pid) - idleBytes) / count,
      idle_rss_bytes: idleBytes,
      acknowledged_ticks_per_second: ticks / seconds,
    };
  },
};
