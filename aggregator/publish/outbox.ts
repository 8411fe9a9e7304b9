import { setTimeout as sleep } from 'node:timers/promises';
import type { DropReason, OutboxMetrics } from './outbox-metrics.ts';
import type { Message, Stream } from './stream.ts';

export interface OutboxOptions {
  /** Label of its metrics. */
  readonly name: string;
  readonly metrics: OutboxMetrics;
  /** Bodies, subjects and headers of what waits or is under way; the oldest that waits goes beyond it. */
  readonly maxBytes: number;
}

/** What a message takes beside its text: objects and a place in the queue. Own estimate. */
const MESSAGE_COST_BYTES = 200;
/** nats-server takes messages of 1 MiB as shipped; headers and subject are in it. */
const MAX_BODY_BYTES = 1_000_000;
/**
 * Publishes under way at once, and their share of the bytes that may wait. Own judgement: a server that answers after
 * 10 ms, as a cluster of three does, still takes 25,000 a second.
 */
const MAX_IN_FLIGHT = 256;
const IN_FLIGHT_SHARE = 1 / 4;
/** Tries of one message before it is given up: the stream takes others, and not this one. */
const MAX_ATTEMPTS = 5;
/** Wait before anything is tried again on a connection that failed a publish. */
const RETRY_MS = 500;
/** Places at the head of the queue that are given back at once. */
const COMPACT_FROM = 1_024;

interface Waiting {
  readonly message: Message;
  readonly bytes: number;
  attempts: number;
}

/**
 * A queue in memory between the pipeline and JetStream: whoever offers never waits. Without a connection, or with a
 * slow one, the newest messages are kept up to a bound and the oldest are dropped and counted. Messages go out in
 * order; one that fails is sent again, so that a message may be stored twice and, after a failure, out of order.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  #queue: Waiting[] = [];
  #head = 0;
  /** Tried before, at most MAX_IN_FLIGHT; they go first. */
  #again: Waiting[] = [];
  #bytes = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  #stream: Stream | undefined;
  #pause: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
    options.metrics.watch(options.name, () => this.#bytes);
  }

  /** Bytes that wait or are under way. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  offer(message: Message): void {
    const { body, subject, headers } = message;
    const size = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    if (this.#closed || size > MAX_BODY_BYTES) {
      this.#dropped(message, this.#closed ? 'closed' : 'too_large');
      return;
    }
    let bytes = size + subject.length + MESSAGE_COST_BYTES;
    for (const name in headers) bytes += name.length + headers[name]!.length;
    this.#queue.push({ message, bytes, attempts: 0 });
    this.#bytes += bytes;
    while (this.#bytes > this.#options.maxBytes && this.#head < this.#queue.length) this.#dropOldest();
    this.#pump();
  }

  begin(stream: Stream): void {
    this.#stream = stream;
    this.#resume();
  }

  /** What was under way fails by itself and is tried again on the next stream. */
  end(): void {
    this.#stream = undefined;
  }

  /** Takes nothing more; what can be stored within `ms` is, the rest is dropped and counted. */
  async close(ms: number): Promise<void> {
    this.#closed = true;
    for (let waited = 0; waited < ms && this.#stream !== undefined && this.#bytes > 0; waited += 5)
      await sleep(5);
    this.#stream = undefined;
    clearTimeout(this.#pause);
    while (this.#again.length > 0) this.#forget(this.#again.pop()!, 'closed');
    while (this.#head < this.#queue.length) this.#forget(this.#take()!, 'closed');
  }

  #pump(): void {
    while (this.#stream !== undefined && this.#pause === undefined && this.#hasRoom()) {
      const next = this.#again.shift() ?? this.#take();
      if (!next) return;
      this.#send(next, this.#stream);
    }
  }

  #hasRoom(): boolean {
    return this.#inFlight < MAX_IN_FLIGHT && this.#inFlightBytes <= this.#options.maxBytes * IN_FLIGHT_SHARE;
  }

  #send(waiting: Waiting, stream: Stream): void {
    const { message } = waiting;
    this.#inFlight++;
    this.#inFlightBytes += waiting.bytes;
    waiting.attempts++;
    stream.publish(message.subject, message.body, message.headers).then(
      () => this.#stored(waiting),
      () => this.#failed(waiting),
    );
  }

  #stored({ message: { body }, bytes }: Waiting): void {
    const { name, metrics } = this.#options;
    this.#inFlight--;
    this.#inFlightBytes -= bytes;
    this.#bytes -= bytes;
    metrics.published.inc({ stream: name });
    metrics.publishedBytes.inc(
      { stream: name },
      typeof body === 'string' ? Buffer.byteLength(body) : body.length,
    );
    this.#pump();
  }

  #failed(waiting: Waiting): void {
    this.#inFlight--;
    this.#inFlightBytes -= waiting.bytes;
    if (this.#closed && this.#stream === undefined) {
      this.#forget(waiting, 'closed');
      return;
    }
    if (waiting.attempts >= MAX_ATTEMPTS) this.#forget(waiting, 'refused');
    else this.#again.push(waiting);
    this.#pause ??= setTimeout(() => this.#resume(), RETRY_MS);
  }

  #resume(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#pump();
  }

  #take(): Waiting | undefined {
    if (this.#head >= this.#queue.length) return undefined;
    const waiting = this.#queue[this.#head++]!;
    if (this.#head >= COMPACT_FROM && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return waiting;
  }

  #dropOldest(): void {
    this.#forget(this.#take()!, 'queue_full');
  }

  #forget({ message, bytes }: Waiting, reason: DropReason): void {
    this.#bytes -= bytes;
    this.#dropped(message, reason);
  }

  #dropped({ onDropped }: Message, reason: DropReason): void {
    const { name, metrics } = this.#options;
    metrics.dropped.inc({ stream: name, reason });
    onDropped?.();
  }
}
