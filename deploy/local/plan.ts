import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Ports, StartOptions } from './options.ts';
import { isPortFree } from './ports.ts';
import { type FoundServer, findNatsServer, findVictoriaMetrics } from './servers.ts';
import type { Source } from './stack-config.ts';

/** Tells the user a line. */
type Say = (line: string) => void;

const STORE_WORDS = {
  off: 'history is off',
  cure: 'install VictoriaMetrics (Debian: victoria-metrics) or give --victoria-metrics URL',
};
const BUS_WORDS = {
  off: 'NATS is off: alerts reach the API, and no subscribers',
  cure: 'install nats-server or give --nats URL',
};

/** The servers that the aggregator will use: URLs, and the binaries of those that we run ourselves. */
export interface Servers {
  readonly victoriaMetrics: { url: string; binary?: string } | undefined;
  readonly nats: { url: string; binary?: string } | undefined;
}

export async function findServers(options: StartOptions, say: Say): Promise<Servers> {
  if (options.embedded) {
    say(
      'embedded: history and NATS are off; live state, health, alerts and the API work from memory and LevelDB',
    );
    return { victoriaMetrics: undefined, nats: undefined };
  }
  const store = options.victoriaMetrics ?? (await findVictoriaMetrics(say));
  const bus = options.nats ?? (await findNatsServer(say));
  return {
    victoriaMetrics: useServer(store, `http://127.0.0.1:${options.ports.victoriaMetrics}`, STORE_WORDS, say),
    nats: useServer(bus, `nats://127.0.0.1:${options.ports.nats}`, BUS_WORDS, say),
  };
}

function useServer(
  server: string | FoundServer,
  url: string,
  words: { off: string; cure: string },
  say: Say,
): { url: string; binary?: string } | undefined {
  if (typeof server === 'string') return { url: server };
  if (server.binary !== undefined) return { url, binary: server.binary };
  say(`${words.off} (${server.reason})`);
  say(`to have it: ${words.cure}`);
  return undefined;
}

/** All that are taken, one sentence each. @throws FleetError unavailable */
export async function checkPorts(ports: Ports, servers: Servers): Promise<void> {
  const wanted: [keyof Ports, string, string, boolean][] = [
    ['ingest', 'ingest', '--ingest-port', true],
    ['api', 'API and console', '--api-port', true],
    [
      'victoriaMetrics',
      'VictoriaMetrics',
      '--victoria-metrics-port',
      servers.victoriaMetrics?.binary !== undefined,
    ],
    ['nats', 'NATS', '--nats-port', servers.nats?.binary !== undefined],
  ];
  const taken: string[] = [];
  for (const [key, what, flag, needed] of wanted) {
    if (!needed || (await isPortFree(ports[key]))) continue;
    taken.push(
      `Cannot listen on port ${ports[key]} (${what}): it is taken; free it or choose another with ${flag} PORT`,
    );
  }
  if (taken.length > 0) throw new FleetError('unavailable', taken.join('\n'), { retryable: false });
}

/**
 * Where the agent's own endpoint will be: the asked port or, where that is taken, the next. Undefined when both
 * are: the agent collects all the same, it only exports nothing.
 */
export async function agentPort(asked: number, source: Source, say: Say): Promise<number | undefined> {
  // The exporter that is to be scraped may be down at the moment: its port is not ours to take.
  const candidates = [asked, asked + 1].filter((port) => !('url' in source && isLocalPort(source.url, port)));
  for (const port of candidates) {
    if (!(await isPortFree(port))) continue;
    if (port !== asked)
      say(`port ${asked} is taken (dcgm-exporter uses it too): agent metrics are on ${port}`);
    return port;
  }
  say(`ports ${asked} and ${asked + 1} are taken: the agent collects, and exports nothing; see --agent-port`);
  return undefined;
}

function isLocalPort(text: string, port: number): boolean {
  const url = new URL(text);
  return ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname) && Number(url.port || 80) === port;
}
