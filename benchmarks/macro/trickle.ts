import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findServer, VICTORIA_METRICS } from '../../deploy/local/servers.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { residentBytes } from '../peers/process-usage.ts';
import { freePort } from './free-port.ts';
import type { PacedStreamsOptions } from './paced-streams.ts';
import { Program } from './program.ts';
import { binaryOr, startAggregator } from './servers.ts';
import { Store } from './store.ts';
import { watchLoad } from './watch-load.ts';

const NODES = 100;
const SERIES = 400;
/** The store has indexed the new series, and what runs a hundred times a second is compiled. */
const WARM_UP_MS = 20_000;
const MEASURE_MS = 20_000;

/** The whole aggregator at an easy pace, with a real store behind it: what one sample costs. */
export const trickle: BenchCase = {
  name: 'trickle',
  description: `${NODES} nodes x ${SERIES} series at 1 s through the aggregator into VictoriaMetrics: CPU for a million samples`,
  async run({ seed, tiny, dataDir, log }: BenchOptions): Promise<BenchMetrics> {
    const found = await findServer(VICTORIA_METRICS, { log });
    if (binaryOr(found, 'VictoriaMetrics', 'trickle', log) === undefined) return {};
    await using dir = tempDir('bench-trickle');
    await using store = await Store.start({ directory: dir.path, port: await freePort(), log });
    const ports = { ingest: await freePort(), api: await freePort() };
    const directory = join(dir.path, 'aggregator');
    await using aggregator = await startAggregator({ directory, storeUrl: store.url, ports });
    await using load = new Program(new URL('./paced-streams.ts', import.meta.url));
    const options: PacedStreamsOptions = {
      port: ports.ingest,
      streams: tiny ? 5 : NODES,
      series: SERIES,
      intervalMs: tiny ? 100 : 1_000,
      ticks: 120,
      bench: { seed, tiny, dataDir },
    };
    await load.ask({ kind: 'start', options });
    await sleep(tiny ? 100 : WARM_UP_MS);
    const pids = [aggregator.pid, store.pid];
    const { seconds, cpu, ticks } = await watchLoad(load, pids, tiny ? 1_000 : MEASURE_MS, log);
    const millions = (ticks * SERIES) / 1e6;
    return {
      aggregator_cpu_seconds_per_million: cpu[0]! / millions,
      store_cpu_seconds_per_million: cpu[1]! / millions,
      aggregator_rss_bytes: residentBytes(aggregator.pid),
      samples_per_second: (ticks * SERIES) / seconds,
    };
  },
};
