import type { Address } from '#shared/config/values.ts';
import type { Clock } from '#shared/model/clock.ts';
import { createSimulatedCollector, type SimulatedCollector } from './collector.ts';
import { DcgmPage } from './dcgm-page.ts';
import { PageServer } from './page-server.ts';
import type { GpuModel } from './profiles.ts';
import type { LoadPattern } from './workload.ts';

export interface PageFleetOptions {
  readonly address: Address;
  /** Named sim-000, sim-001 ...; the same names and seed make the same nodes as an agent that simulates them. */
  readonly nodes: number;
  /** 8 where not given. */
  readonly gpus?: number;
  /** H100 where not given; not MI300X, which dcgm-exporter does not read. */
  readonly model?: Exclude<GpuModel, 'MI300X'>;
  readonly seed?: number;
  readonly load?: LoadPattern;
  /** What passes between two reads where the clock steps back. */
  readonly intervalMs: number;
  readonly clock: Clock;
}

/** A simulated fleet without an agent, for other scrapers: its nodes move when they are scraped. */
export interface PageFleet extends AsyncDisposable {
  readonly server: PageServer;
  readonly nodes: ReadonlyMap<string, SimulatedCollector>;
}

/** Throws `unavailable` where the address cannot be had. Each scrape is a read of its node. */
export async function servePageFleet(options: PageFleetOptions): Promise<PageFleet> {
  const { address, nodes: count, ...rest } = options;
  const server = await PageServer.listen(address);
  const nodes = new Map<string, SimulatedCollector>();
  for (let i = 0; i < count; i++) {
    const node = `sim-${String(i).padStart(3, '0')}`;
    const collector = createSimulatedCollector({ ...rest, node });
    const page = new DcgmPage(collector);
    nodes.set(node, collector);
    server.add(node, async () => {
      await collector.collect(NEVER);
      return page.render();
    });
  }
  return { server, nodes, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** A read that is stuck hangs its scrape, as it does on a real node. */
const NEVER = new AbortController().signal;
