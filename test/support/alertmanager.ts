import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertmanagerCommand } from '../../deploy/local/alertmanager.ts';
import { freePort } from './ports.ts';
import { Child } from './process.ts';
import { alertmanagerBinary } from './servers.ts';
import { type TempDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

const READY_TIMEOUT_MS = 20_000;
/** Routes everything to nobody: what it knows is asked over its API. `resolve_timeout` is for alerts without an end. */
const CONFIG = `global: { resolve_timeout: 5m }
route: { receiver: nobody, group_wait: 1s, group_interval: 1s }
receivers: [{ name: nobody }]
`;

/** An alert as GET /api/v2/alerts gives it, as far as tests look. */
export interface ListedAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly endsAt: string;
  readonly generatorURL?: string;
  readonly status: { readonly state: string; readonly silencedBy: readonly string[] };
}

/** A real prometheus-alertmanager on loopback, alone, on a free port and a folder of its own. */
export class Alertmanager implements AsyncDisposable {
  readonly url: string;
  readonly #dir: TempDir;
  #child: Child | undefined;

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
    this.#dir = tempDir('alertmanager');
  }

  /** Starts one; `await using` it. */
  static async start(): Promise<Alertmanager> {
    const server = new Alertmanager(await freePort());
    try {
      await server.#start();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** What is firing, silenced ones too, by name and labels. */
  async alerts(): Promise<readonly ListedAlert[]> {
    const listed = (await (await fetch(`${this.url}/api/v2/alerts`)).json()) as ListedAlert[];
    return listed.sort((a, b) => (JSON.stringify(a.labels) < JSON.stringify(b.labels) ? -1 : 1));
  }

  /** Silences what has this label, for an hour. */
  async silence(name: string, value: string): Promise<void> {
    const answer = await fetch(`${this.url}/api/v2/silences`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        matchers: [{ name, value, isRegex: false, isEqual: true }],
        ...{ startsAt: new Date().toISOString(), endsAt: new Date(Date.now() + 3_600_000).toISOString() },
        ...{ createdBy: 'a test', comment: 'quiet' },
      }),
    });
    if (!answer.ok) throw new Error(`Cannot silence ${name}=${value}: ${await answer.text()}`);
  }

  async stop(): Promise<void> {
    await this.#child?.stop(10_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#dir[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    const config = join(this.#dir.path, 'alertmanager.yml');
    writeFileSync(config, CONFIG);
    const [command, ...before] = alertmanagerCommand(alertmanagerBinary());
    const child = await Child.start({
      name: 'prometheus-alertmanager',
      command: command!,
      args: [
        ...before,
        `--config.file=${config}`,
        `--storage.path=${this.#dir.path}`,
        `--web.listen-address=${new URL(this.url).host}`,
        '--cluster.listen-address=',
      ],
    });
    this.#child = child;
    await until(async () => (await fetch(`${this.url}/-/ready`)).ok, {
      timeoutMs: READY_TIMEOUT_MS,
      what: 'prometheus-alertmanager is ready',
      hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
      detail: () => child.lastLines(10),
    });
  }
}
