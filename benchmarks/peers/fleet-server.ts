import { once } from 'node:events';
import { createServer } from 'node:http';
import { serve } from '../macro/program.ts';
import { DcgmPage } from './dcgm-page.ts';

/*
 * A fleet of dcgm-exporters on one port, a process of its own: node 17 is /node/17/metrics. It remembers when it
 * served what, so that a sample that was read and never arrived can be told from one that nobody read.
 */
export interface FleetOptions {
  readonly host: string;
  readonly nodes: number;
  readonly gpus: number;
  readonly seed: number;
}

export type FleetRequest =
  | { readonly kind: 'listen'; readonly fleet: FleetOptions }
  /** Answered with Served. */
  | { readonly kind: 'served' };

/** For each node, the moments at which it was scraped, Unix ms: the values of its marker series. */
export type Served = readonly (readonly number[])[];

/** Of each node: an hour at 1 s. */
const MOST_REMEMBERED = 3600;

const served: number[][] = [];

serve<FleetRequest>(async (request) => (request.kind === 'served' ? served : listen(request.fleet)));

async function listen({ host, nodes, gpus, seed }: FleetOptions): Promise<number> {
  const pages = Array.from({ length: nodes }, (_, target) => new DcgmPage(target, gpus, seed));
  for (let target = 0; target < nodes; target++) served.push([]);
  const server = createServer((request, response) => {
    const target = Number(/^\/node\/(\d+)\/metrics$/.exec(request.url ?? '')?.[1]);
    const page = pages[target];
    if (page === undefined) {
      response.writeHead(404).end();
      return;
    }
    // Rising, so that no two scrapes share a value.
    const times = served[target]!;
    const now = Math.max(Date.now(), (times.at(-1) ?? 0) + 1);
    const text = page.render(now);
    // One that breaks off was not read.
    response.once('finish', () => {
      times.push(now);
      if (times.length > MOST_REMEMBERED) times.shift();
    });
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' }).end(text, 'latin1');
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
