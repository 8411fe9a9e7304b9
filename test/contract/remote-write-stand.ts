import { FleetStack } from '../support/fleet-stack.ts';
import {
  type ReceivedRequest,
  type ReceivedSample,
  type RemoteWriteReceiver,
  startReceiver,
} from '../support/remote-write-receiver.ts';
import { startTextServer, type TextServer } from '../support/text-server.ts';
import { until } from '../support/wait.ts';

const MARKER = 'conformance_marker';
const NO_CONTENT = { status: 204 };
/** Identity and deduplication as VictoriaMetrics shows them: without these nothing counts as accepted. */
const STORE_METRICS =
  'vm_app_start_timestamp 1780000000\nflag{name="dedup.minScrapeInterval", value="1ms"} 1\n';

/** One scrape as it arrived. */
export interface Scrape {
  readonly timestampMs: number;
  /** All samples of that moment. */
  readonly samples: readonly ReceivedSample[];
}

/**
 * The product as a remote write sender: a page of Prometheus text, the real agent that scrapes it, the real
 * aggregator, and a store that records each request to the bit and answers what a case wants.
 */
export class RemoteWriteStand implements AsyncDisposable {
  readonly receiver: RemoteWriteReceiver;
  readonly #page: TextServer;
  readonly #stack: FleetStack;
  #marker = 0;

  private constructor(receiver: RemoteWriteReceiver, page: TextServer, stack: FleetStack) {
    this.receiver = receiver;
    this.#page = page;
    this.#stack = stack;
  }

  static async start(): Promise<RemoteWriteStand> {
    const receiver = await startReceiver();
    const page = await startTextServer(`${MARKER} 0\n`);
    receiver.metrics = STORE_METRICS;
    const stack = await FleetStack.start({
      embedded: true,
      aggregator: { store: { url: receiver.url } },
      agent: {
        collection_interval: '200ms',
        external_labels: { rack: 'r7' },
        collectors: { dcgm_exporter: { url: page.url } },
      },
    });
    return new RemoteWriteStand(receiver, page, stack);
  }

  /** What the aggregator logged. */
  get log(): string {
    return this.#stack.aggregator!.output;
  }

  /** Shows a page until a scrape of it is stored, and gives that scrape. */
  async scrape(page: string): Promise<Scrape> {
    const marker = ++this.#marker;
    this.#page.text = `${page.trim()}\n${MARKER} ${marker}\n`;
    return this.#scrapeWhere(`a scrape of page ${marker}`, ({ labels, value }) => {
      return labels.__name__ === MARKER && value === marker;
    });
  }

  /** The same for a page without any sample that could be told apart. */
  async failingScrape(page: string): Promise<Scrape> {
    this.#page.text = page;
    return this.#scrapeWhere('a scrape that failed', ({ labels, value }) => {
      return labels.__name__ === 'up' && value === 0;
    });
  }

  /** Answers 204 from now on. */
  heal(): void {
    this.receiver.answer = () => NO_CONTENT;
  }

  /**
   * Answers each request that has samples of `name` with the next of these answers, once each, then 204 again;
   * gives those requests and what came after.
   */
  async answering(
    name: string,
    page: string,
    answers: readonly { status: number; body?: string; headers?: Record<string, string> }[],
  ): Promise<{ troubled: ReceivedRequest[]; later: () => readonly ReceivedRequest[] }> {
    const troubled: ReceivedRequest[] = [];
    let seen = 0;
    this.receiver.answer = (request) => {
      const answer = carries(request, name) ? answers[troubled.length] : undefined;
      if (answer === undefined) return NO_CONTENT;
      troubled.push(request);
      seen = this.receiver.requests.length;
      return answer;
    };
    this.#page.text = `${page.trim()}\n${MARKER} ${++this.#marker}\n`;
    await soon(() => troubled.length === answers.length, `${answers.length} requests with ${name}`, this);
    return { troubled, later: () => this.receiver.requests.slice(seen) };
  }

  /** Waits until the store has taken every sample of a request, at its own time and with its own value. */
  async stored(request: ReceivedRequest): Promise<void> {
    await soon(
      () => {
        const taken = new Set(this.receiver.stored.map(identityOf));
        return request.samples.every((sample) => taken.has(identityOf(sample)));
      },
      'every sample of a request that failed is stored',
      this,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.heal();
    await this.#stack[Symbol.asyncDispose]();
    await this.#page[Symbol.asyncDispose]();
    await this.receiver[Symbol.asyncDispose]();
  }

  async #scrapeWhere(what: string, isIt: (sample: ReceivedSample) => boolean): Promise<Scrape> {
    const from = this.receiver.stored.length;
    const found = await soon(() => this.receiver.stored.slice(from).find(isIt), what, this);
    const { timestampMs } = found;
    // A large scrape comes in more than one request: scrape_samples_scraped says how many it must be.
    const samples = await soon(
      () => {
        const of = this.receiver.stored.filter((sample) => sample.timestampMs === timestampMs);
        const scraped = of.find(({ labels }) => labels.__name__ === 'scrape_samples_scraped');
        return scraped && of;
      },
      `all of ${what}`,
      this,
    );
    return { timestampMs, samples };
  }
}

async function soon<T>(look: () => T, what: string, stand: RemoteWriteStand) {
  return until(look, { timeoutMs: 30_000, what, detail: () => stand.log.slice(-2000) });
}

export function carries({ samples }: Pick<ReceivedRequest, 'samples'>, name: string): boolean {
  return samples.some(({ labels }) => labels.__name__ === name);
}

/** Series, time and value, to the bit. */
export function identityOf({ pairs, timestampMs, bits }: ReceivedSample): string {
  return JSON.stringify([pairs, timestampMs, bits]);
}

/** The one sample of a series of a scrape; undefined where there is none. */
export function sampleOf(
  { samples }: Pick<Scrape, 'samples'>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): ReceivedSample | undefined {
  const found = samples.filter(
    (one) =>
      one.labels.__name__ === name &&
      Object.entries(labels).every(([label, value]) => one.labels[label] === value),
  );
  if (found.length > 1) throw new Error(`${name} ${JSON.stringify(labels)} is there ${found.length} times`);
  return found[0];
}
