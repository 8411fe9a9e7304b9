import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { fillDisk, flipBytes, freeDisk, makeDisk } from './disk.ts';
import type { Link } from './link.ts';
import { Program } from './program.ts';
import { witnessFile } from './witness.ts';
import type { AgentSpec } from './witnessed-agent.ts';

export interface NodeOptions {
  readonly seed: number;
  readonly cluster: string;
  readonly node: string;
  readonly directory: string;
  readonly mountable: boolean;
  readonly link: Link;
  readonly maxBytes: number;
}

const AGENT = join(import.meta.dirname, 'witnessed-agent.ts');
const ASK_TIMEOUT_MS = 5_000;

/** A node of the fleet: its disk, its cable, its clock, and its agent. */
export class NodeUnderTest implements AsyncDisposable {
  readonly name: string;
  readonly link: Link;
  readonly #options: NodeOptions;
  readonly #program: Program;
  readonly #disk: string;
  readonly #socket: string;
  #starts = 0;
  #clockOffsetMs = 0;

  private constructor(options: NodeOptions) {
    this.name = options.node;
    this.link = options.link;
    this.#options = options;
    this.#disk = join(options.directory, 'disks', options.node);
    this.#socket = join(options.directory, `${options.node}.sock`);
    this.#program = new Program({
      name: options.node,
      command: [...options.link.prefix, process.execPath, AGENT] as unknown as [string, ...string[]],
      args: [],
      log: join(options.directory, 'logs', `${options.node}.log`),
      isReady: async () => (await this.#ask('/metrics')) !== '',
    });
  }

  static async create(options: NodeOptions): Promise<NodeUnderTest> {
    const node = new NodeUnderTest(options);
    await makeDisk(node.#disk, options.mountable);
    return node;
  }

  get isRunning(): boolean {
    return this.#program.pid !== undefined;
  }

  get deaths(): readonly string[] {
    return this.#program.deaths;
  }

  async start(): Promise<void> {
    const { seed, cluster, node, directory, link, maxBytes } = this.#options;
    this.#starts++;
    await rm(this.#socket, { force: true });
    const spec: AgentSpec = {
      seed,
      cluster,
      node,
      machineId: `machine-of-${node}`,
      start: this.#starts,
      directory: this.#data,
      aggregator: { host: link.host, port: link.port },
      witnessFile: witnessFile(join(directory, 'witness'), node, this.#starts),
      socket: this.#socket,
      clockOffsetMs: this.#clockOffsetMs,
      maxBytes,
    };
    await this.#program.start(JSON.stringify(spec));
  }

  kill9(): Promise<void> {
    return this.#program.kill9();
  }

  pause(): void {
    this.#program.pause();
  }

  resume(): void {
    this.#program.resume();
  }

  fillDisk(): void {
    fillDisk(this.#disk);
  }

  freeDisk(): void {
    freeDisk(this.#disk);
  }

  /** Only while it is not running. Returns what was hit. */
  flipBytes(part: number): Promise<string> {
    return flipBytes(this.#data, part);
  }

  async wipe(): Promise<void> {
    await rm(this.#data, { recursive: true, force: true });
  }

  /** Only while both are down: this node's disk becomes a copy of the other's. */
  async cloneFrom(other: NodeUnderTest): Promise<void> {
    await cp(other.#data, this.#data, { recursive: true });
  }

  /** Its wall clock jumps, and stays so over restarts. */
  async stepClock(stepMs: number): Promise<void> {
    this.#clockOffsetMs += stepMs;
    await this.#ask(`/clock?offset_ms=${this.#clockOffsetMs}`);
  }

  /** No ticks from here on: what there is may drain. */
  async freeze(): Promise<void> {
    await this.#ask('/freeze');
  }

  /** Records not yet accepted and bytes not yet answered. */
  async pending(): Promise<number> {
    const text = await this.#ask('/metrics');
    const lines = text.match(/^gpufleet_agent_(backlog_records|uplink_in_flight_bytes\S*) \S+$/gm) ?? [];
    if (lines.length < 3) throw new Error(`${this.name} does not say what is pending`);
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  /** For people who look into a failure. */
  async keepDisk(to: string): Promise<void> {
    await mkdir(to, { recursive: true });
    if ((await readdir(this.#disk)).length > 0)
      await cp(this.#disk, join(to, this.name), { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
    await this.link[Symbol.asyncDispose]();
  }

  get #data(): string {
    return join(this.#disk, 'data');
  }

  #ask(path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const asking = request({ socketPath: this.#socket, path, timeout: ASK_TIMEOUT_MS }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.once('end', () => resolve(text));
        response.once('error', reject);
      });
      asking.once('timeout', () => asking.destroy(new Error(`${this.name} does not answer`)));
      asking.once('error', reject);
      asking.end();
    });
  }
}
