import { createServer } from 'node:http';
import { ServerCredentials } from '@grpc/grpc-js';
import { createRegistry } from '#shared/instruments/registry.ts';
import { runMain } from '#shared/lifecycle/run-main.ts';
import { createLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { Aggregator } from './aggregator.ts';
import { loadAggregatorConfig } from './config.ts';
import { LatestTable } from './store/latest.ts';
await runMain(process, async (signal) => {
  const config = await loadAggregatorConfig(process.argv[3], process.env);
  const logger = createLogger('gpufleet-aggregator', config.log_level);
  const registry = createRegistry();
  await using agg = await Aggregator.open({ config, clock: systemClock, random: Math.random, logger, registry, latest: new LatestTable({ clock: systemClock, registry }), natsCredentials: undefined,
    ingest: { credentials: ServerCredentials.createInsecure(), authenticate: () => ({ node: undefined }) } });
  const server = createServer(async (q, r) => { r.end(q.url === '/metrics' ? await registry.metrics() : 'ok'); });
  server.listen(config.api.listen.port, config.api.listen.host);
  await agg.run(signal);
  server.closeAllConnections(); server.close();
});
