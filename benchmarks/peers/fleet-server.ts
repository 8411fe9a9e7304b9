import { once } from 'node:events';
import { createServer } from 'node:http';
import { serve } from '../macro/program.ts';
import { DcgmPage } from './dcgm-page.ts';

/** Above the shipped rule's critical level, and below its warning level less the margin. */
const HOT_CELSIUS = 97;
const COOL_CELSIUS = 55;
/** At every fourth scrape of a node another GPU becomes hot, and is so for eight scrapes. */
const SCRAPES_BETWEEN = 4;
const SPELL_SCRAPES = 8;

/*
 * A fleet of dcgm-exporters on one port, a process of its own: node 17 is /node/17/metrics. It remembers when it
 * served what, so that a sample that was read and never arrived can be told from one that nobody read.
 */
export interface FleetOptions {
  readonly host: string;
  readonly nodes: number;
  readonly gpus: number;
  readonly seed: number;
  /** GPUs are hot by turns: see `hotSpell`. */
  readonly breaches?: boolean;
}

export type FleetRequest =
  | { readonly kind: 'listen'; readonly fleet: FleetOptions }
  /** Answered with Served. */
  | { readonly kind: 'served' }
  /** Answered with the Breaches since the last answer. */
  | { readonly kind: 'breaches' };

/** For each node, the moments at which it was scraped, Unix ms: the values of its marker series. */
export type Served = readonly (readonly number[])[];

/** For each GPU that was served hot for the first time of a spell: its node, its index, and when, Unix ms. */
export type Breaches = readonly (readonly [target: number, gpu: number, servedMs: number])[];

/** Of each node: an hour at 1 s. */
const MOST_REMEMBERED = 3600;

const served: number[][] = [];

let breached: [number, number, number][] = [];

serve<FleetRequest>(async (request) => {
  if (request.kind === 'listen') return listen(request.fleet);
  if (request.kind === 'served') return served;
  const since = breached;
  breached = [];
  return since;
});

async function listen({ host, nodes, gpus, seed, breaches = false }: FleetOptions): Promise<number> {
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
    const hot = breaches ? hotSpell(page, times.length + target, gpus) : undefined;
    const text = page.render(now);
    // One that breaks off was not read.
    response.once('finish', () => {
      times.push(now);
      if (hot !== undefined) breached.push([target, hot, now]);
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

/** Heats the GPU whose turn it is, and cools the one whose spell is over. Returns the one that is hot anew. */
function hotSpell(page: DcgmPage, scrape: number, gpus: number): number | undefined {
  if (scrape % SCRAPES_BETWEEN !== 0) return undefined;
  const turn = scrape / SCRAPES_BETWEEN;
  page.heat(turn % gpus, HOT_CELSIUS);
  page.heat((turn + gpus - SPELL_SCRAPES / SCRAPES_BETWEEN) % gpus, COOL_CELSIUS);
  return turn % gpus;
}
